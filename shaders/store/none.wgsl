// No gradient.
const HAS_GRADIENT = false;

fn gradient_first() -> u32 {
  return params.logits_first;
}

fn gradient_word(word: u32) -> u32 {
  return 0u;
}

fn store_gradient(word: u32, words: vec4<u32>) {
}

fn store_gradient_word(word: u32, value: u32) {
}
