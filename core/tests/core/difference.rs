//! Derivatives by differences, of functions as stiff and as flat as they come.

/// The derivative of `f` at 0 and how far it may be off, by Ridders' method: central differences over a shrinking step,
/// extrapolated to a step of 0. `step` is the greatest that stays clear of every kink.
pub(crate) fn derivative(f: impl Fn(f64) -> f64, step: f64) -> (f64, f64) {
    const SHRINK: f64 = 1.6;
    const ROWS: usize = 24;
    let central = |h: f64| {
        let (above, below) = (f(h), f(-h));
        // The rounding of the difference: what an f64 of this size may be off by, over the step.
        let noise = f64::EPSILON * (above.abs() + below.abs()) / h;
        ((above - below) / (2.0 * h), noise)
    };
    let mut best = (f64::NAN, f64::INFINITY);
    let mut previous: Vec<f64> = Vec::new();
    let mut h = step;
    for _ in 0..ROWS {
        let (first, noise) = central(h);
        let mut row = vec![first];
        let mut factor = SHRINK * SHRINK;
        for (order, &before) in previous.iter().enumerate() {
            row.push((row[order] * factor - before) / (factor - 1.0));
            factor *= SHRINK * SHRINK;
            let last = row[order + 1];
            let error = (last - row[order]).abs().max((last - before).abs()) + noise;
            if error < best.1 {
                best = (last, error);
            }
        }
        previous = row;
        h /= SHRINK;
    }
    best
}

#[test]
fn it_differentiates_and_knows_how_well() {
    for (f, want) in [
        (f64::sin as fn(f64) -> f64, 1.0),
        (|x| (1e3 * x).exp(), 1e3),
        (|x| 1e6 + x * x * x + 2.0 * x, 2.0),
        (|x| 1e-30 * x, 1e-30),
        (|_| 3.0, 0.0),
    ] {
        let (got, error) = derivative(f, 0.5);
        assert!(
            (got - want).abs() <= 2.0 * error && error <= 1e-6 * want.abs() + 1e-9,
            "{got}: {want}, {error}"
        );
    }
}
