// The listed columns of each row: `offsets[row]..offsets[row + 1]` of the entries are those of a row, each another one.

@group(0) @binding(21) var<storage, read_write> offsets: array<u32>;   // [rows + 1]
@group(0) @binding(22) var<storage, read_write> ids: array<i32>;       // [entries]; what is no class is padding
@group(0) @binding(23) var<storage, read_write> values: array<u32>;    // [entries], f32 by their bits

struct Entries {
  first: u32,
  end: u32,
}

fn entries_of(row: u32) -> Entries {
  let at = params.rows_first + row;
  return Entries(offsets[at], offsets[at + 1u]);
}

fn is_padding(entry: u32) -> bool {
  let id = ids[params.lists_first + entry];
  return id < 0 || u32(id) >= params.classes;
}

// In the columns of this dispatch; beyond their last where it lies in others.
fn column_of(entry: u32) -> u32 {
  return u32(ids[params.lists_first + entry]) - params.column_first;
}

fn is_nan(bits: u32) -> bool {
  return (bits & 0x7fffffffu) > 0x7f800000u;
}
