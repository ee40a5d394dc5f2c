//! The objectives: the traits they implement and the one list of them.

use crate::{Error, RowPartials, RowSummary, TargetProb};
use num_traits::Float;

/// The most kinks that an objective may declare.
pub const MAX_KINKS: usize = 4;

/// Probabilities at which an objective is not smooth, in any order.
pub type Kinks = [Option<f32>; MAX_KINKS];

/// A token objective's value and derivative at one probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenEval<T> {
    /// The loss.
    pub loss: T,
    /// `d loss / d log_p`; at most 0 for an objective that rewards probability.
    pub slope: T,
    /// `false` if a threshold dropped the row; loss and slope are 0 then.
    pub kept: bool,
}

/// A function of the target's probability, and its derivative.
///
/// The gradient of a row's logits follows from the slope alone: `dL/dz_j = slope ([j = t] - p_j)`. With
/// `f(p)` for the loss, `slope = f'(p) p`, which is `-s_f(p)` in the paper's notation.
///
/// ```
/// use num_traits::Float;
/// use tokenloss_core::{TargetProb, TokenEval, TokenObjective};
///
/// /// 1 - p^2.
/// struct Quadratic;
///
/// impl TokenObjective for Quadratic {
///     fn of_target<T: Float>(&self, target: TargetProb<T>) -> TokenEval<T> {
///         let two = T::one() + T::one();
///         let twice = two * target.log_p;
///         TokenEval { loss: -twice.exp_m1(), slope: -two * twice.exp(), kept: true }
///     }
/// }
///
/// tokenloss_core::check_objective(&Quadratic).unwrap();
/// ```
pub trait TokenObjective {
    /// Loss and slope in one call, generic so that the oracle evaluates in `f64` what a GPU does in `f32`.
    ///
    /// Must be accurate at both ends: near p = 1 use `one_minus_p`, near p = 0 use `log_p`, which may be
    /// -infinity (a masked target).
    fn of_target<T: Float>(&self, target: TargetProb<T>) -> TokenEval<T>;

    /// Loss and slope from the log-probability alone.
    fn of_log_p<T: Float>(&self, log_p: T) -> TokenEval<T> {
        self.of_target(TargetProb::from_log_p(log_p))
    }

    /// The loss at `live` with every stop-gradient factor held at `frozen`. The slope at a point is the
    /// derivative of this by `live` there, which for most objectives is the derivative of the loss.
    fn held<T: Float>(&self, frozen: TargetProb<T>, live: TargetProb<T>) -> T {
        let _ = frozen;
        self.of_target(live).loss
    }

    /// The probabilities at which the loss or its slope is not smooth. Checks look at both sides of each, and
    /// never differentiate across one.
    fn kinks(&self) -> Kinks {
        [None; MAX_KINKS]
    }
}

/// A row objective's value and derivatives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowEval<T> {
    /// The loss.
    pub loss: T,
    /// Its derivatives.
    pub partials: RowPartials<T>,
    /// `false` if a threshold dropped the row.
    pub kept: bool,
}

/// A function of a row's summary, and its derivatives. Every [`TokenObjective`] is one.
pub trait RowObjective {
    /// Loss and partials in one call.
    fn of_row<T: Float>(&self, row: &RowSummary<T>) -> RowEval<T>;

    /// The loss at `live` with every stop-gradient factor held at `frozen`. The partials at a row are the derivatives of
    /// this by `live` there, which for most objectives are those of the loss.
    fn held_row<T: Float>(&self, frozen: &RowSummary<T>, live: &RowSummary<T>) -> T {
        let _ = frozen;
        self.of_row(live).loss
    }

    /// The statistics that are looked at. A backend leaves the others out where nobody looks at them.
    fn detail(&self) -> Detail {
        Detail::Moments
    }
}

/// How much a pass finds out about a row. Each level has what those before it have; what is left out is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Detail {
    /// The target's probability, the log-sum-exp and the greatest logit.
    #[default]
    Target,
    /// The entropy.
    Entropy,
    /// Sums over all logits: `sum p_j^2`, the mean, the energy and the number of classes that have mass.
    Moments,
}

impl<O: TokenObjective> RowObjective for O {
    #[inline]
    fn of_row<T: Float>(&self, row: &RowSummary<T>) -> RowEval<T> {
        let eval = self.of_target(row.target);
        RowEval { loss: eval.loss, partials: RowPartials::of_slope(eval.slope), kept: eval.kept }
    }

    fn held_row<T: Float>(&self, frozen: &RowSummary<T>, live: &RowSummary<T>) -> T {
        self.held(frozen.target, live.target)
    }

    fn detail(&self) -> Detail {
        Detail::Target
    }
}

/// No objective: loss and gradient are 0. For rows that are summarised only, and for a divergence that is all there is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unjudged;

impl RowObjective for Unjudged {
    #[inline]
    fn of_row<T: Float>(&self, _: &RowSummary<T>) -> RowEval<T> {
        RowEval { loss: T::zero(), partials: RowPartials::of_slope(T::zero()), kept: true }
    }

    fn detail(&self) -> Detail {
        Detail::Target
    }
}

/// A parameter of an objective, with its domain.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameter {
    /// The name, in Rust, WGSL and specs.
    pub name: &'static str,
    /// The value of a spec that does not give it.
    pub default: f32,
    /// The least value allowed.
    pub min: f32,
    /// The greatest value allowed.
    pub max: f32,
}

impl Parameter {
    pub(crate) fn check(&self, objective: &'static str, value: f32) -> Result<f32, Error> {
        if value >= self.min && value <= self.max {
            Ok(value)
        } else {
            let Self { name: parameter, min, max, .. } = *self;
            Err(Error::Parameter { objective, parameter, value, min, max })
        }
    }
}

/// The most parameters that an objective may have: what its WGSL twin receives in one `vec4`.
pub const MAX_PARAMETERS: usize = 4;

/// What the list says of an objective.
pub trait Listed {
    /// The name, in specs and of the WGSL twin.
    const NAME: &'static str;
    /// What it is a function of, in one word.
    const KIND: &'static str;
    /// Where it was published.
    const SOURCE: &'static str;
    /// The parameters, in order.
    const PARAMETERS: &'static [Parameter];
    /// The values of the parameters, in order; the rest is 0.
    fn parameters(&self) -> [f32; MAX_PARAMETERS];
}

/// The one list of objectives, by kind: `for_each_objective!(tokens, callback)` calls `callback! { .. }` with the lines
/// of that kind, each `module Type { parameter: default, domain } "source"`.
///
/// Adding an objective is one line here and one file `<kind>/<module>.rs` beside the kind's trait; kinds that a GPU judges
/// (tokens, gates, rows) take one file `shaders/objective/<module>.wgsl` more. Modules, constructors, domain checks, the spec
/// parser, the shaders, the tests of every backend and the catalogue all come from this list.
#[macro_export]
macro_rules! for_each_objective {
    // A function of the target's probability.
    (tokens, $callback:ident) => {
        $callback! {
            nll Nll {} "maximum likelihood"
            power Power { alpha: 1.0, -1.0..=16.0 } "arXiv 2510.00526; arXiv 1805.07836"
            unlikelihood Unlikelihood { eps: 1e-3, 1e-6..=1.0 } "arXiv 1908.04319"
            focal Focal { gamma: 2.0, 0.0..=16.0 } "arXiv 1708.02002"
            huber Huber { delta: 0.5, 0.001..=1.0 } "arXiv 2510.00526, appendix F"
            mix Mix { lambda: 0.5, 0.0..=1.0 } "arXiv 2510.00526, appendix F"
            dft Dft {} "arXiv 2508.05629"
            poly1 Poly1 { epsilon: 1.0, -0.5..=16.0 } "arXiv 2204.12511"
            trsft TrSft { a: 0.1, 0.001..=1.0 } "arXiv 2512.17636"
            infosft InfoSft { ceiling: 0.93, 0.51..=0.999 } "arXiv 2605.14967"
        }
    };
    // Around a token objective.
    (gates, $callback:ident) => {
        $callback! {
            thresholded Thresholded { lo: 0.0, 0.0..=1.0; hi: 1.0, 0.0..=1.0 } "arXiv 2510.00526"
        }
    };
    // A function of a row's summary.
    (rows, $callback:ident) => {
        $callback! {
            label_smoothing LabelSmoothing { epsilon: 0.1, 0.0..=1.0 } "arXiv 1512.00567"
            z_loss ZLoss { lambda: 1e-4, 0.0..=16.0 } "arXiv 2204.02311"
            entropy Entropy { lambda: 0.01, -16.0..=16.0 } "arXiv 1701.06548"
            reliable_entropy ReliableEntropy { share: 0.4, 0.0..=1.0 } "arXiv 2302.12400"
            logit_l2 LogitL2 { lambda: 1e-4, 0.0..=16.0 } "arXiv 2011.09468"
            target_l2 TargetL2 { lambda: 1e-4, 0.0..=16.0; gamma: 0.0, -1e3..=1e3 } "arXiv 2011.09468"
            deft Deft {} "arXiv 2602.11424"
            cayley Cayley { mean_p: 0.5, 0.0..=1.0 } "arXiv 2602.11424"
            idft Idft { beta: 1.0, 0.1..=16.0; lambda: 1.0, 0.0..=1.0 } "arXiv 2602.12222"
            entropy_gated EntropyGated { alpha: 1.0, 0.0..=8.0 } "arXiv 2601.02151"
        }
    };
    // A function of two rows of the same vocabulary.
    (divergences, $callback:ident) => {
        $callback! {
            forward_kl ForwardKl {} "arXiv 1503.02531"
            reverse_kl ReverseKl {} "arXiv 2306.08543"
            mixed_kl MixedKl { mix: 0.5, 0.0..=1.0 } "arXiv 2404.02657"
            jensen_shannon JensenShannon { beta: 0.5, 0.01..=0.99 } "arXiv 2306.13649"
            skew_kl SkewKl { alpha: 0.1, 0.001..=0.9 } "arXiv 2402.03898"
            skew_reverse_kl SkewReverseKl { alpha: 0.1, 0.001..=0.9 } "arXiv 2402.03898"
            alpha Alpha { alpha: 0.5, 0.01..=0.99 } "arXiv 2102.07954"
            total_variation TotalVariation {} "arXiv 2307.15190"
        }
    };
    // A function of each class of a row and its label.
    (labels, $callback:ident) => {
        $callback! {
            soft_targets SoftTargets {} "arXiv 1512.00567; arXiv 2303.06075"
            soft_power SoftPower { alpha: 1.0, 0.001..=16.0 } "arXiv 2510.00526; arXiv 1805.07836"
            brier Brier {} "Brier 1950"
            expected_cost ExpectedCost {} "arXiv 1512.02433"
            binary_nll BinaryNll { positive: 1.0, 0.0..=1e3 } "logistic regression; arXiv 2302.03115"
            binary_focal BinaryFocal { alpha: 0.25, 0.0..=1.0; gamma: 2.0, 0.0..=16.0 } "arXiv 1708.02002"
            asymmetric_focal AsymmetricFocal { gamma_pos: 0.0, 0.0..=16.0; gamma_neg: 4.0, 0.0..=16.0; margin: 0.05, 0.0..=0.5 } "arXiv 2009.14119; arXiv 2304.10539"
            quality_focal QualityFocal { alpha: 0.25, 0.0..=1.0; gamma: 2.0, 1.0..=16.0 } "arXiv 2006.04388; arXiv 2304.04742"
            varifocal Varifocal { alpha: 0.75, 0.0..=1.0; gamma: 2.0, 0.0..=16.0 } "arXiv 2008.13367"
        }
    };
    // A function of one sequence's log-probability.
    (sequences, $callback:ident) => {
        $callback! {
            length_nll LengthNll { alpha: 1.0, 0.0..=4.0 } "arXiv 1609.08144"
            poft Poft { beta: 1.0, 0.001..=100.0; gamma: 0.0, -100.0..=100.0 } "arXiv 2412.12865"
            implicit_chi2 ImplicitChi2 { beta: 0.1, 0.001..=10.0 } "arXiv 2507.00018"
            implicit_hellinger ImplicitHellinger { beta: 0.1, 0.001..=10.0; floor: -0.9, -0.99..=0.0 } "arXiv 2507.00018"
            implicit_js ImplicitJs { beta: 0.1, 0.001..=10.0; floor: -0.6, -0.69..=0.0 } "arXiv 2507.00018"
            implicit_reverse_kl ImplicitReverseKl { beta: 0.1, 0.001..=10.0; floor: -5.0, -20.0..=0.0 } "arXiv 2507.00018"
            implicit_tv ImplicitTv { beta: 0.1, 0.001..=10.0 } "arXiv 2507.00018"
            filtered_nll FilteredNll { threshold: 0.0, -1e6..=1e6 } "arXiv 2308.12050"
            kto Kto { beta: 0.1, 0.001..=100.0; desirable: 1.0, 0.0..=100.0; undesirable: 1.0, 0.0..=100.0 } "arXiv 2402.01306"
            trajectory_balance TrajectoryBalance { beta: 1.0, 0.001..=100.0 } "arXiv 2201.13259; arXiv 2210.12765"
            tsallis Tsallis { q: 0.5, 0.0..=1.0 } "arXiv 2604.25907"
        }
    };
    // A function of a token's row and of the row after it.
    (transitions, $callback:ident) => {
        $callback! {
            sequence_match SequenceMatch { alpha: 1.0, 0.001..=1000.0; gamma: 1.0, 0.0..=1.0 } "arXiv 2306.05426"
        }
    };
    // A function of a preferred and a rejected sequence.
    (preferences, $callback:ident) => {
        $callback! {
            dpo Dpo { beta: 0.1, 0.001..=100.0; smoothing: 0.0, 0.0..=0.5; lambda: 0.0, 0.0..=100.0 } "arXiv 2305.18290; arXiv 2404.19733"
            robust_dpo RobustDpo { beta: 0.1, 0.001..=100.0; smoothing: 0.1, 0.0..=0.49 } "arXiv 2403.00409"
            ipo Ipo { beta: 0.1, 0.001..=100.0; alpha: 0.0, 0.0..=1.0 } "arXiv 2310.12036"
            hinge Hinge { beta: 0.1, 0.001..=100.0 } "arXiv 2309.06657"
            slic Slic { delta: 1.0, 0.0..=100.0; lambda: 0.0, 0.0..=100.0 } "arXiv 2305.10425"
            simpo SimPo { beta: 2.0, 0.001..=100.0; gamma: 1.0, 0.0..=100.0; smoothing: 0.0, 0.0..=0.5; lambda: 0.0, 0.0..=100.0 } "arXiv 2405.14734"
            orpo Orpo { lambda: 0.1, 0.0..=100.0 } "arXiv 2403.07691"
            cpo Cpo { beta: 0.1, 0.001..=100.0; smoothing: 0.0, 0.0..=0.5; lambda: 1.0, 0.0..=100.0 } "arXiv 2401.08417"
            mmpo Mmpo { beta: 0.1, 0.001..=100.0; gamma: 1.0, 0.0..=100.0 } "arXiv 2410.03145"
            exo Exo { beta: 0.1, 0.001..=100.0; smoothing: 1e-3, 1e-6..=0.5 } "arXiv 2402.00856"
            nca Nca { beta: 0.1, 0.001..=100.0 } "arXiv 2402.05369"
            sppo Sppo { beta: 0.1, 0.001..=100.0 } "arXiv 2405.00675"
            apo_zero ApoZero { beta: 0.1, 0.001..=100.0 } "arXiv 2408.06266"
            apo_down ApoDown { beta: 0.1, 0.001..=100.0 } "arXiv 2408.06266"
            discopop DiscoPop { beta: 0.1, 0.001..=100.0; tau: 0.05, 0.01..=1.0 } "arXiv 2406.08414"
        }
    };
    // A function of all the sequences of a group.
    (groups, $callback:ident) => {
        $callback! {
            brio Brio { margin: 0.001, 0.0..=100.0; alpha: 1.0, 0.0..=4.0; per_gap: 1.0, 0.0..=1.0 } "arXiv 2203.16804"
            rwr Rwr { beta: 1.0, 0.001..=1000.0; alpha: 0.0, 0.0..=4.0 } "arXiv 2308.12050"
            iwae Iwae {} "arXiv 1509.00519; arXiv 2509.22637"
            variational Variational { alpha: 1.0, 0.0..=1.0 } "arXiv 2509.22637"
            plackett_luce PlackettLuce { beta: 0.1, 0.001..=100.0 } "arXiv 2305.18290"
            pro Pro { lambda: 0.05, 0.0..=100.0 } "arXiv 2306.17492"
        }
    };
    // A surrogate of a policy's return, over the tokens of a rollout.
    (policies, $callback:ident) => {
        $callback! {
            reinforce Reinforce {} "Williams 1992"
            importance_weighted ImportanceWeighted {} "arXiv 1707.06347"
            ppo Ppo { low: 0.2, 0.0..=1.0; high: 0.2, 0.0..=1e6 } "arXiv 1707.06347; arXiv 2503.14476; arXiv 2508.17784"
            dual_clip DualClip { low: 0.2, 0.0..=1.0; high: 0.2, 0.0..=1e6; bound: 3.0, 1.0..=1e6 } "arXiv 1912.09729"
            cispo Cispo { low: 1.0, 0.0..=1.0; high: 0.2, 0.0..=1e6 } "arXiv 2506.13585"
            sapo Sapo { tau_pos: 1.0, 0.01..=10.0; tau_neg: 1.05, 0.01..=10.0 } "arXiv 2511.20347"
            gspo Gspo { low: 3e-4, 0.0..=1.0; high: 4e-4, 0.0..=1e6 } "arXiv 2507.18071"
            gspo_token GspoToken { low: 3e-4, 0.0..=1.0; high: 4e-4, 0.0..=1e6 } "arXiv 2507.18071"
            gmpo Gmpo { low: 0.4, 0.0..=1000.0; high: 0.4, 0.0..=1000.0 } "arXiv 2507.20673"
            bgpo Bgpo {} "arXiv 2510.11683"
            shaping Shaping { c: 0.1, 0.001..=1.0 } "arXiv 2504.14945; arXiv 2509.04419"
            k1 K1 { beta: 0.04, 0.0..=100.0 } "Schulman 2020"
            k2 K2 { beta: 0.04, 0.0..=100.0 } "Schulman 2020"
            k3 K3 { beta: 0.04, 0.0..=100.0 } "Schulman 2020; arXiv 2402.03300"
        }
    };
    // Advantages from rewards.
    (advantages, $callback:ident) => {
        $callback! {
            grpo Grpo { eps: 1e-6, 0.0..=1.0 } "arXiv 2402.03300"
            dr_grpo DrGrpo {} "arXiv 2503.20783"
            rloo Rloo {} "arXiv 2402.14740"
            stratified Stratified { alpha: 0.5, 0.0..=1.0; eps: 1e-6, 0.0..=1.0 } "arXiv 2510.06214"
            reinforce_plus_plus ReinforcePlusPlus { eps: 1e-8, 0.0..=1.0 } "arXiv 2501.03262"
            spo Spo {
                rho_min: 0.875, 0.0..=1.0; rho_max: 0.96, 0.0..=1.0; half_life: 0.06, 0.001..=10.0; eps: 1e-8, 0.0..=1.0
            } "arXiv 2509.13232"
            gae Gae { gamma: 1.0, 0.0..=1.0; lambda: 0.95, 0.0..=1.0 } "arXiv 1506.02438"
        }
    };
    // A function of the losses of a batch's samples.
    (samples, $callback:ident) => {
        $callback! {
            mean Mean {} "empirical risk minimisation"
            weighted_mean WeightedMean {} "Shimodaira 2000"
            inverse_propensity InversePropensity { clip: 1e30, 1.0..=1e30 } "Horvitz and Thompson 1952"
            self_normalised SelfNormalised { clip: 1e30, 1.0..=1e30 } "Swaminathan and Joachims 2015"
            kl_dro KlDro { tau: 1.0, 1e-6..=1e6; rho: 0.0, 0.0..=1e3 } "arXiv 1610.02581; arXiv 2505.06699"
            tilted Tilted { t: 1.0, -1e6..=1e6 } "arXiv 2007.01162"
            chi_square_dro ChiSquareDro { rho: 1.0, 0.0..=1e6 } "arXiv 1610.02581; arXiv 2010.05893"
            running_kl RunningKl {
                tau: 1.0, 1e-6..=1e6; gamma: 0.9, 0.0..=1.0; eps: 1e-14, 0.0..=1.0; rho: 0.0, 0.0..=1e3
            } "arXiv 2202.12387; arXiv 2505.06699"
            feasible Feasible { epsilon: 0.0, -1e6..=1e6; eta: 0.1, 0.0..=1e6 } "arXiv 2501.14912"
            resilient Resilient {
                epsilon: 0.0, -1e6..=1e6; alpha: 1.0, 1e-6..=1e6; eta: 0.1, 0.0..=1e6
            } "arXiv 2501.14912"
            squared_hinge SquaredHinge { epsilon: 0.0, -1e6..=1e6; alpha: 1.0, 1e-6..=1e6 } "arXiv 2501.14912"
            group_dro GroupDro { eta: 0.01, 0.0..=1e3 } "arXiv 1911.08731"
            rex Rex { beta: 1.0, 0.0..=1e6 } "arXiv 2003.00688"
            mm_rex MmRex { beta: 1.0, 0.0..=1e6 } "arXiv 2003.00688"
            irm Irm {} "arXiv 1907.02893; arXiv 2106.09777"
            irm_unbiased IrmUnbiased {} "arXiv 1907.02893"
            easy_llp EasyLlp { prior: 0.5, 0.0..=1.0 } "arXiv 2302.03115"
            cadft Cadft { beta: 1.0, 0.0..=1e3 } "arXiv 2606.11206"
        }
    };
    // A mean of the losses in order, in which a worse one counts for more; a function of samples, too.
    (spectra, $callback:ident) => {
        $callback! {
            cvar Cvar { alpha: 0.1, 1e-6..=1.0 } "Rockafellar and Uryasev 2000; arXiv 2505.06699"
            top_k TopK { k: 1.0, 1.0..=16777216.0 } "arXiv 1705.08826; arXiv 2206.07137"
            extremile Extremile { r: 2.0, 1.0..=1024.0 } "Daouia et al. 2019; arXiv 2310.13863"
            esrm Esrm { rho: 1.0, 0.0..=1024.0 } "Cotter and Dowd 2006; arXiv 2310.13863"
            mean_cvar MeanCvar { alpha: 0.1, 1e-6..=1.0; lambda: 0.5, 0.0..=1.0 } "Rockafellar and Uryasev 2000"
        }
    };
    // Around a spectral risk.
    (penalties, $callback:ident) => {
        $callback! {
            chi_square ChiSquare { nu: 1.0, 1e-6..=1e6 } "arXiv 2310.13863"
            kl Kl { nu: 1.0, 1e-6..=1e6 } "arXiv 2310.13863"
        }
    };
    // A function of scores, values or predictions.
    (scores, $callback:ident) => {
        $callback! {
            squared Squared {} "least squares"
            huber Huber { delta: 1.0, 0.001..=1000.0 } "Huber 1964"
            pseudo_huber PseudoHuber { c: 0.03, 0.0..=1000.0 } "arXiv 2310.14189"
            pinball Pinball { tau: 0.5, 0.0..=1.0 } "Koenker and Bassett 1978"
            expectile Expectile { tau: 0.5, 0.0..=1.0 } "Newey and Powell 1987; arXiv 2110.06169"
            binary_cross_entropy BinaryCrossEntropy {} "maximum likelihood"
            reject Reject { alpha: 2.0, 0.01..=16.0; beta: 9.71, 0.001..=100000.0; cost: 0.05, 0.001..=1.0 } "arXiv 2301.09044"
            bradley_terry BradleyTerry { smoothing: 0.0, 0.0..=0.5; centre: 0.0, 0.0..=10.0 } "Bradley and Terry 1952; arXiv 2203.02155"
            fidelity Fidelity {} "arXiv 2501.11561"
        }
    };
    // A function of a few listed columns of a row.
    (columns, $callback:ident) => {
        $callback! {
            soft_labels SoftLabels {} "arXiv 1512.00567"
            subset_mass SubsetMass {} "arXiv 2007.08929; arXiv 2201.00057"
            purified Purified {} "arXiv 2002.08053; arXiv 2206.00830"
            candidate_unlikelihood CandidateUnlikelihood {} "arXiv 1908.04319"
            subset_softmax SubsetSoftmax {} "arXiv 2011.12216"
            margin Margin { margin: 1.0, 0.0..=1000.0 } "arXiv 1103.0398"
            expected_value ExpectedValue {} "arXiv 2501.11561"
        }
    };
    // A weight of a row, from a few of its columns.
    (column_weights, $callback:ident) => {
        $callback! {
            eaft Eaft { alpha: 1.0, 0.0..=16.0; divisor: 3.0, 0.01..=100.0 } "arXiv 2601.02151"
        }
    };
    // A function of embeddings or of their similarities.
    (embeddings, $callback:ident) => {
        $callback! {
            info_nce InfoNce {} "arXiv 1807.03748; arXiv 2004.11362"
            clip Clip {} "arXiv 2103.00020"
            sig_lip SigLip {} "arXiv 2303.15343"
            log_mass LogMass {} "arXiv 2201.00057; arXiv 1912.06430"
            threshold_consistent_margin ThresholdConsistentMargin { weight_positive: 1.0, 0.0..=100.0; weight_negative: 1.0, 0.0..=100.0; margin_positive: 0.9, -1.0..=1.0; margin_negative: 0.5, -1.0..=1.0 } "arXiv 2307.04047"
            barlow_twins BarlowTwins { lambda: 0.0051, 0.0..=1.0 } "arXiv 2103.03230"
            vic_reg VicReg { mu: 25.0, 0.0..=1000.0; nu: 1.0, 0.0..=1000.0; gamma: 1.0, 0.0..=100.0; eps: 1e-4, 1e-8..=1.0 } "arXiv 2105.04906"
            kernel_entropy KernelEntropy {} "arXiv 2307.10907"
            alignment Alignment {} "arXiv 2307.10907; arXiv 2005.10242"
        }
    };
}

/// [`Listed`] for one line; for a wrapper, with what it is around.
macro_rules! listed_as {
    ($kind:literal $module:ident [$type:ty $(, $inner:ident)?] {
        $($param:ident: $default:literal, $min:literal..=$max:literal);*
    } $source:literal) => {
        impl$(<$inner>)? $crate::Listed for $type {
            const NAME: &'static str = stringify!($module);
            const KIND: &'static str = $kind;
            const SOURCE: &'static str = $source;
            const PARAMETERS: &'static [$crate::Parameter] = &[$($crate::Parameter {
                name: stringify!($param), default: $default, min: $min, max: $max,
            }),*];
            fn parameters(&self) -> [f32; $crate::MAX_PARAMETERS] {
                $crate::objective::padded([$(self.$param),*])
            }
        }
    };
}

/// Modules, constructors and [`Listed`] for the lines of a kind.
macro_rules! listed {
    ($kind:literal $($module:ident $type:ident {
        $($param:ident: $default:literal, $min:literal..=$max:literal);*
    } $source:literal)*) => {
        $(mod $module; pub use $module::$type;)*

        $(
            impl $type {
                /// Checks every parameter against its declared domain.
                ///
                /// # Errors
                /// [`Error::Parameter`](crate::Error::Parameter), which names the parameter, its value and its domain.
                pub fn new($($param: f32),*) -> Result<Self, $crate::Error> {
                    let [$($param),*] = $crate::objective::check(
                        <Self as $crate::Listed>::NAME,
                        <Self as $crate::Listed>::PARAMETERS,
                        [$($param),*],
                    )?;
                    Ok(Self { $($param),* })
                }
            }

            listed_as! { $kind $module [$type] { $($param: $default, $min..=$max);* } $source }
        )*
    };
}

/// An enum of the objectives of a kind, to choose from at run time.
macro_rules! any {
    ($(#[$doc:meta])* $any:ident $($module:ident $type:ident {
        $($param:ident: $default:literal, $min:literal..=$max:literal);*
    } $source:literal)*) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub enum $any {
            $(
                #[doc = concat!("[`", stringify!($type), "`](struct@", stringify!($type), ").")]
                $type($type),
            )*
        }

        $(
            impl From<$type> for $any {
                fn from(objective: $type) -> Self {
                    Self::$type(objective)
                }
            }
        )*

        impl $any {
            /// The names of all of them, in the order of the list.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($module)),*];

            /// The name.
            pub fn name(&self) -> &'static str {
                match self { $(Self::$type(_) => <$type as Listed>::NAME),* }
            }

            /// The values of the parameters, in order; the rest is 0.
            pub fn parameters(&self) -> [f32; MAX_PARAMETERS] {
                match self { $(Self::$type(objective) => Listed::parameters(objective)),* }
            }

            /// The parameters that an objective of this name has.
            pub fn parameters_of(name: &str) -> Option<&'static [Parameter]> {
                $(if name == <$type as Listed>::NAME {
                    return Some(<$type as Listed>::PARAMETERS);
                })*
                None
            }

            /// An objective by name, with the values of its parameters in order; values beyond the last
            /// parameter are not looked at. `None` if there is no such name.
            ///
            /// # Errors
            /// [`Error::Parameter`] for a value outside its domain.
            pub fn with_parameters(name: &str, values: [f32; MAX_PARAMETERS]) -> Option<Result<Self, Error>> {
                $(if name == <$type as Listed>::NAME {
                    #[allow(unused_mut, unused_variables)]
                    let mut values = values.into_iter();
                    $(let $param = values.next().unwrap_or($default);)*
                    return Some($type::new($($param),*).map(Self::$type));
                })*
                None
            }
        }
    };
}

macro_rules! declare_tokens {
    ($($module:ident $type:ident $parameters:tt $source:literal)*) => {
        listed! { "token" $($module $type $parameters $source)* }
        any! {
            /// Any listed token objective, chosen at run time.
            AnyToken $($module $type $parameters $source)*
        }

        impl TokenObjective for AnyToken {
            fn of_target<T: Float>(&self, target: TargetProb<T>) -> TokenEval<T> {
                match self { $(Self::$type(objective) => objective.of_target(target)),* }
            }
            fn held<T: Float>(&self, frozen: TargetProb<T>, live: TargetProb<T>) -> T {
                match self { $(Self::$type(objective) => objective.held(frozen, live)),* }
            }
            fn kinks(&self) -> Kinks {
                match self { $(Self::$type(objective) => objective.kinks()),* }
            }
        }
    };
}
for_each_objective!(tokens, declare_tokens);
pub(crate) use power::power;

macro_rules! declare_rows {
    ($($module:ident $type:ident $parameters:tt $source:literal)*) => {
        listed! { "row" $($module $type $parameters $source)* }
        any! {
            /// Any listed row objective, chosen at run time.
            AnyRow $($module $type $parameters $source)*
        }

        $(
            impl From<$type> for crate::Term {
                fn from(objective: $type) -> Self {
                    Self::Row(objective.into())
                }
            }
        )*

        impl RowObjective for AnyRow {
            fn of_row<T: Float>(&self, row: &RowSummary<T>) -> RowEval<T> {
                match self { $(Self::$type(objective) => objective.of_row(row)),* }
            }
            fn held_row<T: Float>(&self, frozen: &RowSummary<T>, live: &RowSummary<T>) -> T {
                match self { $(Self::$type(objective) => objective.held_row(frozen, live)),* }
            }
            fn detail(&self) -> Detail {
                match self { $(Self::$type(objective) => objective.detail()),* }
            }
        }
    };
}
for_each_objective!(rows, declare_rows);

macro_rules! declare_gates {
    ($($module:ident $type:ident {
        $($param:ident: $default:literal, $min:literal..=$max:literal);*
    } $source:literal)*) => { $(
        mod $module;
        pub use $module::$type;

        listed_as! { "gate" $module [$type<O>, O] { $($param: $default, $min..=$max);* } $source }
    )* };
}
for_each_objective!(gates, declare_gates);

pub(crate) fn check<const N: usize>(
    objective: &'static str,
    parameters: &[Parameter],
    values: [f32; N],
) -> Result<[f32; N], Error> {
    for (parameter, value) in parameters.iter().zip(values) {
        parameter.check(objective, value)?;
    }
    Ok(values)
}

pub(crate) fn padded<const N: usize>(values: [f32; N]) -> [f32; MAX_PARAMETERS] {
    let mut all = [0.0; MAX_PARAMETERS];
    all[..N].copy_from_slice(&values);
    all
}

/// Any objective, chosen at run time; see [`Objective::parse`] for its text form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Objective {
    /// A token objective.
    Token(AnyToken),
    /// A token objective behind a threshold.
    Thresholded(Thresholded<AnyToken>),
}

impl<O: Into<AnyToken>> From<O> for Objective {
    fn from(objective: O) -> Self {
        Self::Token(objective.into())
    }
}

impl TokenObjective for Objective {
    fn of_target<T: Float>(&self, target: TargetProb<T>) -> TokenEval<T> {
        match self {
            Self::Token(objective) => objective.of_target(target),
            Self::Thresholded(objective) => objective.of_target(target),
        }
    }
    fn held<T: Float>(&self, frozen: TargetProb<T>, live: TargetProb<T>) -> T {
        match self {
            Self::Token(objective) => objective.held(frozen, live),
            Self::Thresholded(objective) => objective.held(frozen, live),
        }
    }
    fn kinks(&self) -> Kinks {
        match self {
            Self::Token(objective) => objective.kinks(),
            Self::Thresholded(objective) => objective.kinks(),
        }
    }
}

/// A parameter in the float type of the evaluation. Every `f32` is a value of every float type in use.
#[inline]
pub(crate) fn cast<T: Float>(value: f32) -> T {
    T::from(value).unwrap_or_else(T::nan)
}
