// What a tile's columns know of a row, merged into its record. Until the row is judged, the record's status is the
// first bad column of the whole vocabulary, plus 1, and its last two words are the target's logit and whether it was seen.

fn part_merge(row: u32, column: u32, span: Span, map: RowMap, tile_stats: RowStats) {
  let at = record_of(row);
  var stats = tile_stats;
  if (stats.argmax != NO_COLUMN) {
    stats.argmax += params.column_first;
  }
  if (stats.bad != NO_COLUMN) {
    stats.bad += params.column_first;
  }
  var goal_logit = 0u;
  var goal_seen = 0u;
  if ((params.flags & FLAG_FIRST) == 0u) {
    let status = records[at + RECORD_STATUS];
    var before = record_stats(row);
    before.bad = select(status - 1u, NO_COLUMN, status == STATUS_FINE);
    stats = row_stats_merge(before, stats);
    goal_logit = records[at + RECORD_TARGET_LOGIT];
    goal_seen = records[at + RECORD_LIVE];
  }
  if (column < params.vocab) {
    goal_logit = taken4(map, vec4<u32>(logit_of(span, column)), vec4<u32>(column)).x;
    goal_seen = 1u;
  }
  records[at + RECORD_STATUS] = select(stats.bad + 1u, STATUS_FINE, stats.bad == NO_COLUMN);
  record_write_stats(row, stats);
  records[at + RECORD_TARGET_LOGIT] = goal_logit;
  records[at + RECORD_LIVE] = goal_seen;
}
