// The gradient goes to a binding of its own.
const HAS_GRADIENT = true;

fn gradient_first() -> u32 {
  return params.dlogits_first;
}

fn gradient_word(word: u32) -> u32 {
  return load_dlogits_word(word);
}

fn store_gradient(word: u32, words: vec4<u32>) {
  store_dlogits(word, words);
}

fn store_gradient_word(word: u32, value: u32) {
  store_dlogits_word(word, value);
}
