// Logits in bf16, the upper half of an f32: two in a word, the even element low.

const PER_WORD = 2u;
const PART_BITS = 0xffffu;

fn unpack(words: vec4<u32>, part: u32) -> vec4<u32> {
  if (part == 0u) {
    return words << vec4<u32>(16u);
  }
  return words & vec4<u32>(0xffff0000u);
}

// Rounds to nearest, ties to even.
fn pack(values: vec4<f32>, part: u32) -> vec4<u32> {
  let bits = bitcast<vec4<u32>>(values);
  let rounded = (bits + 0x7fffu + ((bits >> vec4<u32>(16u)) & vec4<u32>(1u))) >> vec4<u32>(16u);
  return rounded << vec4<u32>(16u * part);
}

const NAN_WORD = 0x7fc07fc0u;
