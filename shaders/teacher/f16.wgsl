// The teacher's logits in f16, two in a word: the bits of the elements `at`, as f32. Needs unpack/f16.wgsl.
fn teacher_bits4(at: vec4<u32>) -> vec4<u32> {
  return unpack_f16(teacher_words4(at / 2u) >> (16u * (at % 2u)));
}
