// One word a load, for rows that begin or end where four do not fit.

@group(0) @binding(1) var<storage, read_write> logits: array<u32>;
@group(0) @binding(4) var<storage, read_write> dlogits: array<u32>;

// Blocks are counted as in the wide form, so that the order of additions, and with it every bit of the result,
// does not depend on the width.
fn head_of(first_word: u32) -> u32 {
  return first_word % 4u;
}

fn load_logits(word: u32, first: u32, last: u32) -> vec4<u32> {
  // What lies outside the row is not looked at, but must not lie outside the buffer.
  return vec4<u32>(
    logits[clamp(word, first, last)],
    logits[clamp(word + 1u, first, last)],
    logits[clamp(word + 2u, first, last)],
    logits[clamp(word + 3u, first, last)],
  );
}

fn load_logits_word(word: u32) -> u32 {
  return logits[word];
}

fn load_dlogits_word(word: u32) -> u32 {
  return dlogits[word];
}

fn store_logits(word: u32, words: vec4<u32>) {
  logits[word] = words.x;
  logits[word + 1u] = words.y;
  logits[word + 2u] = words.z;
  logits[word + 3u] = words.w;
}

fn store_dlogits(word: u32, words: vec4<u32>) {
  dlogits[word] = words.x;
  dlogits[word + 1u] = words.y;
  dlogits[word + 2u] = words.z;
  dlogits[word + 3u] = words.w;
}

fn store_logits_word(word: u32, value: u32) {
  logits[word] = value;
}

fn store_dlogits_word(word: u32, value: u32) {
  dlogits[word] = value;
}
