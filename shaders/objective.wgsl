// What an objective returns. The twin of core/src/objective.rs.

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

fn token_eval_dropped() -> TokenEval {
  return TokenEval(0.0, 0.0, false);
}

fn row_eval_of_token(eval: TokenEval) -> RowEval {
  return RowEval(eval.loss, row_partials_of_slope(eval.slope), eval.kept);
}
