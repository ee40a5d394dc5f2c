// Logits in f32: a word is an element.

const PER_WORD = 1u;
const PART_BITS = 0xffffffffu;

// The bits, as f32, of the elements `part` of four words.
fn unpack(words: vec4<u32>, part: u32) -> vec4<u32> {
  return words;
}

// Values in the place of the elements `part` of four words.
fn pack(values: vec4<f32>, part: u32) -> vec4<u32> {
  return bitcast<vec4<u32>>(values);
}

const NAN_WORD = 0x7fc00000u;
