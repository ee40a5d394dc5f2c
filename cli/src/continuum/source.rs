//! Where the data comes from: a source whose true conditional is known.
//!
//! A sentence is three tokens, `a b y`. The first two are drawn uniformly; the third depends on them by a
//! table that has to be learnt: `best(a, b) = permutation[class(a)][b]`, with a random class for every token
//! and a random permutation of the vocabulary for every class. A model that has found the classes predicts
//! pairs that it never saw.

use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

/// A stream of random numbers that depends on nothing but its arguments.
pub(super) fn stream(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// Sentences without their third token, and the label to learn for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Examples {
    /// The first two tokens.
    pub(super) contexts: Vec<[u32; 2]>,
    /// The label of the third.
    pub(super) labels: Vec<i32>,
}

/// A random source.
#[derive(Debug)]
pub(super) struct Source {
    vocab: u32,
    class: Vec<usize>,
    permutations: Vec<Vec<i32>>,
    held_out: Vec<bool>,
}

impl Source {
    /// One pair of tokens in `HELD_OUT` is kept from all training, for the test.
    const HELD_OUT: u32 = 8;

    /// A source with `vocab` tokens in `classes` classes.
    pub(super) fn new(rng: &mut ChaCha8Rng, vocab: u32, classes: usize) -> Self {
        let class = (0..vocab).map(|_| rng.random_range(0..classes)).collect();
        let permutation = |_| {
            let mut permutation: Vec<i32> = (0..vocab as i32).collect();
            permutation.shuffle(rng);
            permutation
        };
        let permutations = (0..classes).map(permutation).collect();
        let held_out = (0..vocab * vocab).map(|_| rng.random_range(0..Self::HELD_OUT) == 0).collect();
        Self { vocab, class, permutations, held_out }
    }

    /// The most probable third token.
    fn best(&self, [a, b]: [u32; 2]) -> i32 {
        self.permutations[self.class[a as usize]][b as usize]
    }

    fn context(&self, rng: &mut ChaCha8Rng, held_out: bool) -> [u32; 2] {
        loop {
            let [a, b] = [rng.random_range(0..self.vocab), rng.random_range(0..self.vocab)];
            if self.held_out[(a * self.vocab + b) as usize] == held_out {
                return [a, b];
            }
        }
    }

    /// Training sentences: the best token, or with probability `other` any of the others.
    ///
    /// The random numbers drawn do not depend on `other`, so that two levels of noise differ in nothing but
    /// the labels that are wrong in one and right in the other.
    pub(super) fn training(&self, rng: &mut ChaCha8Rng, count: usize, other: f64) -> Examples {
        let mut examples = Examples::default();
        for _ in 0..count {
            let context = self.context(rng, false);
            let best = self.best(context);
            let (coin, step) = (rng.random::<f64>(), rng.random_range(1..self.vocab) as i32);
            let label = if coin < other { (best + step) % self.vocab as i32 } else { best };
            examples.contexts.push(context);
            examples.labels.push(label);
        }
        examples
    }

    /// Test sentences: pairs that no training sentence has, with the best token.
    pub(super) fn test(&self, rng: &mut ChaCha8Rng, count: usize) -> Examples {
        let contexts: Vec<_> = (0..count).map(|_| self.context(rng, true)).collect();
        let labels = contexts.iter().map(|&context| self.best(context)).collect();
        Examples { contexts, labels }
    }
}
