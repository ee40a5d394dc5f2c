// A tile of logits to what its columns know of each row.

fn kernel(row: u32, lane: u32, subgroup: u32, subgroup_lane: u32) {
  if (row >= params.rows) {
    return;
  }
  let goal = goal_of(row, lane);
  let span = span_of(row);
  if (goal == -100) {
    pass_over(row, lane, span, row_map(row, NO_COLUMN));
    return;
  }
  // Below the tile's first column this wraps to beyond its last.
  let column = u32(goal) - params.column_first;
  let map = row_map(row, column);
  let stats = reduce(sweep_stats(span, map, lane), lane, subgroup, subgroup_lane);
  if (lane == 0u) {
    part_merge(row, column, span, map, stats);
  }
}
