// A row with listed columns is pushed back where the derivatives by them, or by the rest, say so.

fn is_live(row: u32) -> bool {
  let by_rest = record_f32(row, RECORD_D_LSE);
  // By bits, because comparisons may not see a NaN and drivers differ on subnormals.
  var greatest = bitcast<u32>(by_rest) & 0x7fffffffu;
  var norm = abs(by_rest);
  let entries = entries_of(row);
  for (var entry = entries.first; entry < entries.end; entry++) {
    if (!is_padding(entry)) {
      let size = values[params.side_first + entry] & 0x7fffffffu;
      greatest = max(greatest, size);
      norm += bitcast<f32>(size);
    }
  }
  return greatest >= 0x00800000u && (is_nan(greatest) || reaches(norm));
}
