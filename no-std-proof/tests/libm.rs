//! The golden vectors and the `f32` accuracy of the core with libm's functions in place of std's. The core's own
//! tests cannot see them: their dependencies turn num-traits' std on for everybody.

#[path = "../../core/tests/core/agree.rs"]
mod agree;
#[path = "../../core/tests/core/golden.rs"]
mod golden;

use tokenloss_core::AnyToken;

#[test]
fn single_precision_agrees_with_double() {
    let mut points = 0;
    for name in AnyToken::NAMES {
        let parameters = AnyToken::parameters_of(name).unwrap();
        for part in [0.0f32, 0.01, 0.1, 0.3, 0.5, 0.77, 1.0] {
            let mut values = [0.0; tokenloss_core::MAX_PARAMETERS];
            for (value, p) in values.iter_mut().zip(parameters) {
                *value = (p.min + part * (p.max - p.min)).clamp(p.min, p.max);
            }
            let objective = AnyToken::with_parameters(name, values).unwrap().unwrap();
            // Margins to 80 on either side of p = 1/2.
            for margin in (1..1600).map(|i| 0.05 * f64::from(i)) {
                let tail = (-margin).exp();
                let (near_one, near_zero) = (-tail.ln_1p(), -margin - tail.ln_1p());
                agree::agree(objective, near_one as f32, (tail / (1.0 + tail)) as f32).unwrap();
                agree::agree(objective, near_zero as f32, (1.0 / (1.0 + tail)) as f32).unwrap();
                points += 2;
            }
        }
    }
    assert!(points > 100_000, "{points}");
}
