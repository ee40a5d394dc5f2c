// -log p
fn nll(prob: TargetProb) -> TokenEval {
  return TokenEval(-prob.log_p, -1.0, true);
}
