// The teacher's logits in f32: the bits of the elements `at`, as f32.
fn teacher_bits4(at: vec4<u32>) -> vec4<u32> {
  return teacher_words4(at);
}
