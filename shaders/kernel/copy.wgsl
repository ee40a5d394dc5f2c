// Copies words: what the fused kernels are timed beside.

@group(0) @binding(1) var<storage, read_write> logits: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> dlogits: array<vec4<u32>>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = group.y * params.grid_x + group.x;
  if (row >= params.rows) {
    return;
  }
  // `vocab` and `stride` are counted in vec4 here.
  for (var i = lane; i < params.vocab; i += WG) {
    dlogits[row * params.stride + i] = logits[row * params.stride + i];
  }
}
