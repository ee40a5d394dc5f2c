// The gradient of a chunk's hidden states, from f32 sums, which begin and end as 0, to its storage type, one invocation
// a word. Bad rows are NaN.

@group(0) @binding(11) var<storage, read_write> dhidden: array<u32>;
@group(0) @binding(12) var<storage, read_write> sums: array<f32>;   // [rows, dim]

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let first = params.dlogits_first;
  let end = first + params.rows * params.stride;
  let word = first / PER_WORD + row_of(group) * WG + lane;
  if (word * PER_WORD >= end) {
    return;
  }
  var bits = 0u;
  var keep = 0u;
  for (var part = 0u; part < PER_WORD; part++) {
    let element = word * PER_WORD + part;
    if (element < first || element >= end) {
      // A neighbour's half of the word.
      keep |= PART_BITS << (16u * part);
      continue;
    }
    let at = element - first;
    let row = at / params.stride;
    let is_bad = targets[params.targets_first + row] != -100 && records[record_of(row) + RECORD_STATUS] != STATUS_FINE;
    let packed = pack(vec4<f32>(sums[at]), part).x;
    // For the next chunk.
    sums[at] = 0.0;
    bits |= select(packed, NAN_WORD & (PART_BITS << (16u * part)), is_bad);
  }
  if (keep != 0u) {
    bits |= dhidden[word] & keep;
  }
  dhidden[word] = bits;
}
