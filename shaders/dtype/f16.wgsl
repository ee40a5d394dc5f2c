// Logits in f16: two in a word, the even element low. Converted by their bits, because the built-in conversions
// may flush subnormals and need not round to nearest, and most gradients of a large batch are f16 subnormals. Needs
// unpack/f16.wgsl.

const PER_WORD = 2u;
const PART_BITS = 0xffffu;

fn unpack(words: vec4<u32>, part: u32) -> vec4<u32> {
  return unpack_f16(words >> vec4<u32>(16u * part));
}

// Rounds to nearest, ties to even; beyond 65,520 to infinity.
fn pack(values: vec4<f32>, part: u32) -> vec4<u32> {
  let bits = bitcast<vec4<u32>>(values);
  let sign = (bits >> vec4<u32>(16u)) & vec4<u32>(0x8000u);
  let magnitude = bits & vec4<u32>(0x7fffffffu);
  let rebiased = magnitude - (112u << 23u);
  let normal = (rebiased + 0xfffu + ((rebiased >> vec4<u32>(13u)) & vec4<u32>(1u))) >> vec4<u32>(13u);
  let small = min(bitcast<vec4<f32>>(magnitude), vec4<f32>(0x1p-14));
  let subnormal = vec4<u32>(round(small * 0x1p24));
  let finite = select(normal, subnormal, magnitude < vec4<u32>(0x38800000u));
  let rounded = select(finite, vec4<u32>(0x7c00u), magnitude >= vec4<u32>(0x477ff000u));
  return (sign | rounded) << vec4<u32>(16u * part);
}

const NAN_WORD = 0x7e007e00u;
