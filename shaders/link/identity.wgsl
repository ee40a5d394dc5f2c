// The logit itself.

fn link4(z: vec4<f32>) -> vec4<f32> {
  return z;
}

fn link_derivative4(z: vec4<f32>) -> vec4<f32> {
  return vec4<f32>(1.0);
}
