use crate::Error;
use crate::error::check_inputs;

/// How much of a prompt's loss is reinforcement and how much is supervision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hybrid {
    /// The weight of the policy objective on the prompt's own rollouts.
    pub reinforce: f32,
    /// The weight of a token objective on its demonstration.
    pub supervise: f32,
}

/// The switch of hybrid post-training: a prompt that is solved often enough is reinforced, any other is supervised.
///
/// ```text
/// (1, 0) where solve_rate > gate, else (0, 1)
/// ```
///
/// `solve_rate` is the share of the prompt's own rollouts that are right. The comparison is strict: `gate = 0` supervises
/// only what is never solved.
///
/// ```
/// use tokenloss_core::policy::hybrid;
/// assert_eq!(hybrid(0.0, 0.0)?.supervise, 1.0);
/// assert_eq!(hybrid(0.125, 0.0)?.reinforce, 1.0);
/// # Ok::<(), tokenloss_core::Error>(())
/// ```
///
/// **Source.** Lv et al. 2025 (arXiv 2509.04419). Its code counts: it supervises where the number of right rollouts is at
/// most a threshold.
///
/// # Errors
/// [`Error::Input`] for a `solve_rate` or a `gate` outside 0 to 1.
pub fn hybrid(solve_rate: f32, gate: f32) -> Result<Hybrid, Error> {
    for (what, value) in [("solve_rate", solve_rate), ("gate", gate)] {
        check_inputs(what, "a number from 0 to 1", [(0, value)], |value| (0.0..=1.0).contains(&value))?;
    }
    let solved = solve_rate > gate;
    Ok(Hybrid { reinforce: f32::from(u8::from(solved)), supervise: f32::from(u8::from(!solved)) })
}
