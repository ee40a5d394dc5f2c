// Four words a load. Blocks are counted from the start of the binding, so the first block of a row may begin
// up to three words before it; logits and dlogits must begin at the same place in a block.

@group(0) @binding(1) var<storage, read_write> logits: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> dlogits: array<vec4<u32>>;

fn head_of(first_word: u32) -> u32 {
  return first_word % 4u;
}

fn load_logits(word: u32, first: u32, last: u32) -> vec4<u32> {
  return logits[word / 4u];
}

fn load_logits_word(word: u32) -> u32 {
  return logits[word / 4u][word % 4u];
}

fn load_dlogits_word(word: u32) -> u32 {
  return dlogits[word / 4u][word % 4u];
}

fn store_logits(word: u32, words: vec4<u32>) {
  logits[word / 4u] = words;
}

fn store_dlogits(word: u32, words: vec4<u32>) {
  dlogits[word / 4u] = words;
}

fn store_logits_word(word: u32, value: u32) {
  logits[word / 4u][word % 4u] = value;
}

fn store_dlogits_word(word: u32, value: u32) {
  dlogits[word / 4u][word % 4u] = value;
}
