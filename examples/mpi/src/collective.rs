//! MPI as what ranks of [`tokenloss::Sharded`] do together.

use mpi::collective::SystemOperation;
use mpi::traits::{Communicator, CommunicatorCollectives};
use std::convert::Infallible;
use tokenloss::Collective;

/// All ranks of a communicator.
///
/// It has no error: unless told otherwise, MPI ends the whole job where a call fails.
pub struct Ranks<'a, C>(pub &'a C);

/// MPI counts in 32 bits, and a sum out of place needs a copy of what it adds.
const AT_A_TIME: usize = 1 << 20;

impl<C: Communicator> Collective for Ranks<'_, C> {
    type Error = Infallible;

    fn ranks(&self) -> usize {
        self.0.size() as usize
    }

    fn all_gather(&self, mine: &[f64], all: &mut [f64]) -> Result<(), Infallible> {
        self.0.all_gather_into(mine, all);
        Ok(())
    }

    fn all_sum(&self, values: &mut [f32]) -> Result<(), Infallible> {
        for values in values.chunks_mut(AT_A_TIME) {
            let mine = values.to_vec();
            self.0.all_reduce_into(&mine[..], values, SystemOperation::sum());
        }
        Ok(())
    }
}
