// -sg(p) log p: the value and the slope of different functions
fn dft(prob: TargetProb) -> TokenEval {
  let p = exp_any(prob.log_p);
  if (p == 0.0) {
    return TokenEval(0.0, 0.0, true);
  }
  return TokenEval(-p * prob.log_p, -p, true);
}
