// The bits, as f32, of f16s in the lower halves of words. Converted by their bits, because the built-in conversion may flush
// subnormals.
fn unpack_f16(bits: vec4<u32>) -> vec4<u32> {
  let sign = (bits & vec4<u32>(0x8000u)) << vec4<u32>(16u);
  let magnitude = bits & vec4<u32>(0x7fffu);
  // 112 is the difference of the exponents' biases, twice that takes infinity to infinity.
  let rebias = select(vec4<u32>(112u << 23u), vec4<u32>(224u << 23u), magnitude >= vec4<u32>(0x7c00u));
  let normal = (magnitude << vec4<u32>(13u)) + rebias;
  let subnormal = bitcast<vec4<u32>>(vec4<f32>(magnitude) * 0x1p-24);
  return sign | select(normal, subnormal, magnitude < vec4<u32>(0x400u));
}
