// The teacher's row, read at the columns of the student's blocks, so that what is summed, and in which order, is the same for
// both: rows that are the same have the same sums, whatever holds them.

@group(0) @binding(16) var<storage, read_write> teacher: array<u32>;   // [rows, teacher_stride]

fn teacher_words4(at: vec4<u32>) -> vec4<u32> {
  return vec4<u32>(teacher[at.x], teacher[at.y], teacher[at.z], teacher[at.w]);
}

// The bits, as f32, of some columns of a row that begins at the element `first`. Those outside the row are its last.
fn load_teacher(first: u32, columns: vec4<u32>) -> vec4<u32> {
  return teacher_bits4(first + min(columns, vec4<u32>(params.vocab - 1u)));
}
