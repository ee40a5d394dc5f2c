// What an objective returns. The twin of core/src/objective.rs and core/src/composite.rs.

struct TokenEval {
  loss: f32,
  slope: f32,
  kept: bool,
}

struct RowEval {
  loss: f32,
  partials: RowPartials,
  kept: bool,
}

fn row_eval_of_token(eval: TokenEval) -> RowEval {
  return RowEval(eval.loss, row_partials_of_slope(eval.slope), eval.kept);
}

fn row_eval_dropped() -> RowEval {
  return RowEval(0.0, row_partials_zero(), false);
}

// A sum of no terms.
fn row_eval_zero() -> RowEval {
  return RowEval(0.0, row_partials_zero(), true);
}

fn row_eval_plus(a: RowEval, b: RowEval) -> RowEval {
  return RowEval(a.loss + b.loss, row_partials_plus(a.partials, b.partials), a.kept && b.kept);
}
