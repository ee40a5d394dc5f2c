//! Calls that judge rows: what they have in common.

use crate::dispatch::Dispatch;
use crate::kernels::{Parts, Scale};
use crate::{GpuError, Kernels};
use tokenloss_shaders::{Params, Program, Store, Width, flag};

/// A call that judges rows.
pub(crate) struct Fused<'a> {
    /// By where the gradient goes.
    pub(crate) program: &'a dyn Fn(Store, Width) -> Program,
    pub(crate) judge: &'a str,
    /// What writes the gradient where that waits for the number of kept rows, and its part that judges.
    pub(crate) second: (&'a dyn Fn(Width) -> Program, &'a str),
    pub(crate) base: Params,
    /// The flags of totals over judged rows.
    pub(crate) judged: u32,
    pub(crate) weights: bool,
    pub(crate) store: Store,
    pub(crate) scale: Scale,
    pub(crate) totals: bool,
}

impl Fused<'_> {
    pub(crate) fn params(&self, flags: u32) -> Params {
        let weights = if self.weights { flag::WEIGHTS } else { 0 };
        Params { flags: self.base.flags | weights | flags, ..self.base }
    }
}

impl Kernels {
    /// Everything of a call that judges rows: once, or, where the gradient waits for the number of kept rows, twice.
    pub(crate) fn plan_fused<'a>(
        &'a self,
        parts: &'a Parts<'a>,
        fused: &Fused<'a>,
        dispatches: &mut Vec<Dispatch<'a>>,
    ) -> Result<(), GpuError> {
        let Fused { program, judge, second, scale, store, judged, .. } = *fused;
        let [plain, scaled, judged] = [0, flag::SCALE, judged].map(|flags| fused.params(flags));
        let has_gradient = store != Store::None;
        if has_gradient && scale == Scale::Kept {
            self.plan_rows(parts, &|width| program(Store::None, width), judge, plain, dispatches)?;
            self.plan_totals(parts, judged, scale, dispatches);
            return self.plan_rows(parts, second.0, second.1, scaled, dispatches);
        }
        let params = if has_gradient { scaled } else { plain };
        if has_gradient {
            self.plan_totals(parts, plain, scale, dispatches);
        }
        self.plan_rows(parts, &|width| program(store, width), judge, params, dispatches)?;
        if fused.totals {
            self.plan_totals(parts, judged, scale, dispatches);
        }
        Ok(())
    }
}
