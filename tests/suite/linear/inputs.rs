//! Hidden states that each have a reason, and a head.

use crate::inputs::Stream;
use tokenloss::{Batch, Element, IGNORE_INDEX, Linear, Shape};

pub(crate) struct Case<E> {
    pub(crate) vocab: usize,
    pub(crate) dim: usize,
    pub(crate) hidden: Vec<E>,
    pub(crate) weight: Vec<E>,
    pub(crate) bias: Option<Vec<E>>,
    pub(crate) targets: Vec<i32>,
    pub(crate) weights: Vec<f32>,
    pub(crate) what: Vec<&'static str>,
}

/// Numbers around 0.
fn spread(s: &mut Stream, count: usize, width: f32) -> Vec<f32> {
    (0..count).map(|_| width * (2.0 * s.uniform() - 1.0)).collect()
}

fn narrow<E: Element>(numbers: &[f32]) -> Vec<E> {
    numbers.iter().map(|x| E::from_f32(*x)).collect()
}

impl<E: Element> Case<E> {
    /// One row of each kind. Some rows weigh nothing, others more or less than 1; two are ignored and full of NaN. Where
    /// there is a bias, it masks every seventh column that is no target.
    pub(crate) fn new(vocab: usize, dim: usize, with_bias: bool, seed: u64) -> Self {
        let mut s = Stream::new(seed);
        let weight = spread(&mut s, vocab * dim, 1.0);
        let row_of = |j: usize| &weight[j * dim..][..dim];
        let norm = |j: usize| row_of(j).iter().map(|w| w * w).sum::<f32>();
        // Logits of unit scale at a width of 3.
        let unit = 1.0 / (dim as f32).sqrt();
        let mut rows: Vec<(&'static str, Vec<f32>, i32)> = Vec::new();
        for width in [15.0, 9.0, 3.0, 0.5, 0.1] {
            rows.push(("noise", spread(&mut s, dim, width * unit), s.below(vocab) as i32));
        }
        // A row of NaN that nobody may read.
        rows.insert(2, ("ignored", vec![f32::NAN; dim], IGNORE_INDEX));
        for margin in [5.0, 17.0, 40.0] {
            // A long row of the weight, since a short one asks for a huge hidden state.
            let picks: Vec<_> = (0..8).map(|_| s.below(vocab)).collect();
            let top = picks.into_iter().max_by(|a, b| norm(*a).total_cmp(&norm(*b))).unwrap_or(0);
            let towards: Vec<_> = row_of(top).iter().map(|w| w * margin / norm(top)).collect();
            rows.push(("confident and right", towards.clone(), top as i32));
            rows.push(("confident and elsewhere", towards, ((top + 1 + s.below(vocab - 1)) % vocab) as i32));
        }
        if vocab > 2 {
            // All logits alike. With two classes p would be one half, where an objective has a kink.
            rows.push(("nothing", vec![0.0; dim], s.below(vocab) as i32));
        }
        rows.push(("ignored", vec![f32::NAN; dim], IGNORE_INDEX));

        let targets: Vec<_> = rows.iter().map(|row| row.2).collect();
        let bias = with_bias.then(|| {
            let mut bias = spread(&mut s, vocab, 1.0);
            let masked = (3..vocab).step_by(7).filter(|j| !targets.contains(&(*j as i32)));
            masked.for_each(|j| bias[j] = f32::NEG_INFINITY);
            narrow(&bias)
        });
        let hidden: Vec<_> = rows.iter().flat_map(|row| row.1.iter().copied()).collect();
        Self {
            vocab,
            dim,
            hidden: narrow(&hidden),
            weight: narrow(&weight),
            bias,
            weights: (0..rows.len()).map(|row| [1.0, 0.5, 3.0, 0.0, 2.0][row % 5]).collect(),
            targets,
            what: rows.iter().map(|row| row.0).collect(),
        }
    }

    /// Many rows of noise, of which each tenth looks at its target, each eleventh is ignored.
    pub(crate) fn noise(rows: usize, vocab: usize, dim: usize, seed: u64) -> Self {
        let mut s = Stream::new(seed);
        let weight = spread(&mut s, vocab * dim, 1.0);
        let mut hidden = spread(&mut s, rows * dim, 6.0 / (dim as f32).sqrt());
        let mut targets: Vec<_> = (0..rows).map(|_| s.below(vocab) as i32).collect();
        for row in (0..rows).step_by(10) {
            let towards = &weight[targets[row] as usize * dim..][..dim];
            let norm: f32 = towards.iter().map(|w| w * w).sum();
            let margin = (row % 37) as f32;
            let into = hidden[row * dim..][..dim].iter_mut().zip(towards);
            into.for_each(|(h, w)| *h = w * margin / norm);
        }
        (5..rows).step_by(11).for_each(|row| targets[row] = IGNORE_INDEX);
        Self {
            vocab,
            dim,
            hidden: narrow(&hidden),
            weight: narrow(&weight),
            bias: None,
            weights: vec![1.0; rows],
            targets,
            what: vec!["noise"; rows],
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.targets.len()
    }

    pub(crate) fn batch(&self) -> Batch<'_> {
        let shape = Shape::new(self.rows(), self.vocab).expect("a shape");
        let batch = Batch::new(shape, &self.targets).expect("targets");
        batch.with_weights(&self.weights).expect("weights")
    }

    pub(crate) fn linear(&self) -> Linear<'_, E> {
        self.of_batch(self.batch())
    }

    pub(crate) fn of_batch<'a>(&'a self, batch: Batch<'a>) -> Linear<'a, E> {
        let linear = Linear::new(batch, self.dim, &self.hidden, &self.weight).expect("a linear form");
        match &self.bias {
            Some(bias) => linear.with_bias(bias).expect("a bias"),
            None => linear,
        }
    }

    /// A slice of the vocabulary.
    pub(crate) fn shard(&self, columns: std::ops::Range<usize>) -> Linear<'_, E> {
        let weight = &self.weight[columns.start * self.dim..columns.end * self.dim];
        let linear =
            Linear::shard(self.batch(), self.dim, &self.hidden, weight, columns.clone()).expect("a shard");
        match &self.bias {
            Some(bias) => linear.with_bias(&bias[columns]).expect("a bias"),
            None => linear,
        }
    }
}
