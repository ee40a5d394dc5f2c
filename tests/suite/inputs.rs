//! What is put in: rows that each have a reason, and every objective of the list.

use tokenloss::{AnyToken, Element, MAX_PARAMETERS, Objective, Parameter, Thresholded};

/// A stream of numbers that is the same on every machine.
pub(crate) struct Stream(u64);

impl Stream {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// From 0 to 1.
    pub(crate) fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((self.uniform() * n as f32) as usize).min(n - 1)
    }
}

/// A row and its target.
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) logits: Vec<f32>,
    pub(crate) target: usize,
}

/// Rows of one width. Margins are distances of the greatest logit from the next.
pub(crate) fn rows(vocab: usize, seed: u64) -> Vec<Row> {
    let mut s = Stream::new(seed);
    let mut rows = Vec::new();
    let mut add = |what, logits: Vec<f32>, target| rows.push(Row { what, logits, target });
    let spread = |s: &mut Stream, width: f32| -> Vec<f32> {
        (0..vocab).map(|_| width * (2.0 * s.uniform() - 1.0)).collect()
    };

    add("uniform", spread(&mut s, 20.0), s.below(vocab));
    add("narrow", spread(&mut s, 0.5), s.below(vocab));
    // Softmax collapse: where f32 loses the gradient, from a margin of 17 on.
    for margin in [0.0, 0.5, 5.0, 15.0, 17.0, 40.0, 80.0] {
        let mut logits = vec![0.0; vocab];
        let (top, other) = (s.below(vocab), s.below(vocab));
        logits[top] = margin;
        add("confident and right", logits.clone(), top);
        add("confident and elsewhere", logits.clone(), other);
        // The rest not all alike, so that sums are not exact.
        logits.iter_mut().enumerate().filter(|(j, _)| *j != top).for_each(|(_, z)| *z = -3.0 * s.uniform());
        add("confident over noise", logits, top);
    }
    add("constant", vec![1.25; vocab], s.below(vocab));
    let mut tied = spread(&mut s, 2.0);
    (tied[0], tied[vocab - 1]) = (9.0, 9.0);
    add("two maxima, first and last", tied, vocab - 1);
    for offset in [1000.0, -3000.0] {
        add("offset", spread(&mut s, 6.0).into_iter().map(|z| z + offset).collect(), s.below(vocab));
    }
    let mut masked = spread(&mut s, 8.0);
    let target = s.below(vocab);
    masked
        .iter_mut()
        .enumerate()
        .filter(|(j, _)| *j != target && j % 3 == 0)
        .for_each(|(_, z)| *z = f32::NEG_INFINITY);
    add("masked", masked, target);
    let mut alone = vec![f32::NEG_INFINITY; vocab];
    alone[target] = -7.0;
    add("all masked but the target", alone, target);
    rows
}

/// The rows as one matrix in a storage type, with what that storage makes of them.
pub(crate) struct Matrix<E> {
    pub(crate) logits: Vec<E>,
    pub(crate) targets: Vec<i32>,
    pub(crate) stride: usize,
    pub(crate) vocab: usize,
    pub(crate) what: Vec<&'static str>,
}

impl<E: Element> Matrix<E> {
    /// `padding` columns of NaN follow each row: whoever reads them shows it.
    pub(crate) fn new(rows: &[Row], padding: usize) -> Self {
        let vocab = rows[0].logits.len();
        let mut logits = Vec::with_capacity(rows.len() * (vocab + padding));
        for row in rows {
            logits.extend(row.logits.iter().map(|z| E::from_f32(*z)));
            logits.extend(std::iter::repeat_n(E::from_f32(f32::NAN), padding));
        }
        let targets = rows.iter().map(|row| row.target as i32).collect();
        let what = rows.iter().map(|row| row.what).collect();
        Self { logits, targets, stride: vocab + padding, vocab, what }
    }

    /// The logits of a row as the backends see them, in `f64`.
    pub(crate) fn row(&self, row: usize) -> Vec<f64> {
        self.logits[row * self.stride..][..self.vocab].iter().map(|z| f64::from(z.to_f32())).collect()
    }
}

/// Every objective of the list: its defaults, each parameter at both ends and in the middle of its domain, and
/// the default behind a threshold from either side. A new line in the list shows up here by itself.
pub(crate) fn objectives() -> Vec<Objective> {
    let mut all = Vec::new();
    for name in AnyToken::NAMES {
        let of = |values| AnyToken::with_parameters(name, values).expect("listed").expect("in the domain");
        let settings = settings(AnyToken::parameters_of(name).expect("listed"), &[0.0, 0.5, 1.0]);
        let default = of(settings[0]);
        all.extend(settings.into_iter().map(|values| Objective::Token(of(values))));
        for (lo, hi) in [(0.2, 1.0), (0.0, 0.7)] {
            all.push(Objective::Thresholded(Thresholded::new(default, lo, hi).expect("an interval")));
        }
    }
    all
}

/// The defaults of parameters, and each of them in turn at these places of its domain, from 0 to 1.
pub(crate) fn settings(parameters: &[Parameter], places: &[f32]) -> Vec<[f32; MAX_PARAMETERS]> {
    let defaults: [f32; MAX_PARAMETERS] =
        std::array::from_fn(|i| parameters.get(i).map_or(0.0, |parameter| parameter.default));
    let mut all = vec![defaults];
    for (i, Parameter { min, max, .. }) in parameters.iter().enumerate() {
        all.extend(places.iter().map(|place| {
            let mut values = defaults;
            values[i] = (min * (1.0 - place) + max * place).clamp(*min, *max);
            values
        }));
    }
    all
}
