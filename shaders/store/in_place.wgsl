// The gradient overwrites the logits.
const HAS_GRADIENT = true;

fn gradient_first() -> u32 {
  return params.logits_first;
}

fn gradient_word(word: u32) -> u32 {
  return load_logits_word(word);
}

fn store_gradient(word: u32, words: vec4<u32>) {
  store_logits(word, words);
}

fn store_gradient_word(word: u32, value: u32) {
  store_logits_word(word, value);
}
