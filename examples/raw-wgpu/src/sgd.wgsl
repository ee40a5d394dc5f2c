// One step of gradient descent, after which the gradient is 0, for the next step adds to it.

override RATE: f32 = 1.0;

@group(0) @binding(0) var<storage, read_write> values: array<f32>;
@group(0) @binding(1) var<storage, read_write> gradient: array<f32>;

@compute @workgroup_size(256)
fn descend(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  for (var i = id.x; i < arrayLength(&values); i += 256u * groups.x) {
    values[i] -= RATE * gradient[i];
    gradient[i] = 0.0;
  }
}
