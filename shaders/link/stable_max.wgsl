// sign(z) ln(1 + |z|)

fn link4(z: vec4<f32>) -> vec4<f32> {
  return sign(z) * ln_1p4(abs(z));
}

fn link_derivative4(z: vec4<f32>) -> vec4<f32> {
  return 1.0 / (1.0 + abs(z));
}
