// The teacher's logits in bf16, two in a word: the bits of the elements `at`, as f32.
fn teacher_bits4(at: vec4<u32>) -> vec4<u32> {
  return (teacher_words4(at / 2u) >> (16u * (at % 2u))) << vec4<u32>(16u);
}
