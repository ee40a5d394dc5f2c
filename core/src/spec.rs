//! Objectives as text.
use crate::{AnyRow, AnyToken, Composite, Error, Listed, MAX_PARAMETERS, Objective, Term, Thresholded};
use core::fmt;

/// Why a text is not an objective.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum SpecError<'a> {
    /// No objective has this name.
    Unknown(&'a str),
    /// No objective that may be a term of a sum has this name.
    UnknownTerm(&'a str),
    /// The objective has no such parameter.
    Parameter {
        /// The objective.
        objective: &'a str,
        /// What stands where a parameter's name should.
        parameter: &'a str,
    },
    /// A parameter is not followed by `=` and a number.
    Value {
        /// The parameter.
        parameter: &'a str,
        /// What stands where its value should.
        value: &'a str,
    },
    /// A parameter is given twice.
    Twice(&'a str),
    /// A gate has no `inner=`, or its inner objective is a gate itself.
    Inner(&'a str),
    /// A parameter lies outside its domain.
    Domain(Error),
}

impl fmt::Display for SpecError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write_unknown(f, name, &[]),
            Self::UnknownTerm(name) => write_unknown(f, name, AnyRow::NAMES),
            Self::Parameter { objective, parameter } => {
                write!(f, "objective: {objective} has no parameter '{parameter}'")?;
                let known = if *objective == GATE {
                    Thresholded::<AnyToken>::PARAMETERS
                } else {
                    AnyToken::parameters_of(objective)
                        .or_else(|| AnyRow::parameters_of(objective))
                        .unwrap_or(&[])
                };
                for (i, parameter) in known.iter().enumerate() {
                    write!(f, "{}{}", if i == 0 { ", expected " } else { " or " }, parameter.name)?;
                }
                Ok(())
            }
            Self::Value { parameter, value } => {
                write!(f, "objective: {parameter} = '{value}' is not a finite number")
            }
            Self::Twice(parameter) => write!(f, "objective: {parameter} is given twice"),
            Self::Inner(name) => {
                write!(f, "objective: {GATE} needs inner=NAME with an ungated objective, got '{name}'")
            }
            Self::Domain(error) => error.fmt(f),
        }
    }
}

/// What may stand where a name is not known: a token objective, or one of `more`.
fn write_unknown(f: &mut fmt::Formatter<'_>, name: &str, more: &[&str]) -> fmt::Result {
    write!(f, "objective: no objective is called '{name}', expected ")?;
    AnyToken::NAMES.iter().chain(more).try_for_each(|name| write!(f, "{name}, "))?;
    write!(f, "{GATE} or a key of the paper's code")
}

impl core::error::Error for SpecError<'_> {}

impl From<Error> for SpecError<'_> {
    fn from(error: Error) -> Self {
        Self::Domain(error)
    }
}

const GATE: &str = <Thresholded<AnyToken> as Listed>::NAME;

impl Objective {
    /// Reads a spec. One grammar for command line, documentation and tests:
    ///
    /// ```text
    /// spec      = name [ ":" parameter "=" value { "," parameter "=" value } ]
    /// nll                                       every parameter has a default
    /// power:alpha=10
    /// thresholded:inner=nll,lo=0.2              what is not lo or hi belongs to the inner objective
    /// thresholded:inner=power,alpha=1,hi=0.9
    /// ```
    ///
    /// The keys of the paper's code (`trainer.objective_trans`) are accepted, too:
    ///
    /// | key | objective |
    /// |---|---|
    /// | `original`, `logp` | `nll` |
    /// | `p` | `power:alpha=1` |
    /// | `GeneralFamily-a`, `convexity-a` | `power:alpha=a` (`convexity` subtracts the constant 1/a from the value) |
    /// | `OnlyTopP-q`, `OnlyBottomP-q` | `thresholded:inner=power,alpha=1` with `lo=q`, `hi=q` |
    /// | `OnlyTopLogP-q`, `OnlyBottomLogP-q` | `thresholded:inner=nll` with `lo=q`, `hi=q` |
    /// | `UnlikehoodTop-q`, `UnlikehoodBottom-q` | `thresholded:inner=unlikelihood,eps=0.001` with `lo=q`, `hi=q` |
    ///
    /// That code asserts `0 <= q < 1` for its Top keys and `0 < q <= 1` for its Bottom keys. Both ends are
    /// accepted here, as `lo` and `hi` accept them: at the end that it refuses, a gate keeps only the rows whose
    /// p is exactly 1, or 0.
    ///
    /// That code divides by the rows that a threshold keeps: use [`Denominator::Kept`](crate::Denominator::Kept)
    /// with the thresholded keys to get its step size.
    ///
    /// ```
    /// use tokenloss_core::Objective;
    /// let objective = Objective::parse("OnlyTopLogP-0.2")?;
    /// assert_eq!(objective, Objective::parse("thresholded:inner=nll,lo=0.2")?);
    /// # Ok::<(), tokenloss_core::SpecError>(())
    /// ```
    ///
    /// # Errors
    /// [`SpecError`], which quotes the part of the text that is at fault.
    pub fn parse(spec: &str) -> Result<Self, SpecError<'_>> {
        if let Some(objective) = paper_key(spec)? {
            return Ok(objective);
        }
        let (name, arguments) = spec.split_once(':').map_or((spec, None), |(name, rest)| (name, Some(rest)));
        let arguments = || arguments.into_iter().flat_map(|rest| rest.split(','));
        if name != GATE {
            return token(name, arguments()).map(Self::Token);
        }
        let gate = Thresholded::<AnyToken>::PARAMETERS;
        let mine = |argument: &&str| {
            let key = argument.split('=').next().unwrap_or(argument).trim();
            key == "inner" || gate.iter().any(|p| p.name == key)
        };
        let mut inner = None;
        for argument in arguments().filter(mine) {
            let (key, value) = argument.split_once('=').unwrap_or((argument, ""));
            if key.trim() == "inner" && inner.replace(value.trim()).is_some() {
                return Err(SpecError::Twice("inner"));
            }
        }
        let inner_name = inner.ok_or(SpecError::Inner(""))?;
        if AnyToken::parameters_of(inner_name).is_none() {
            return Err(SpecError::Inner(inner_name));
        }
        let is_inner = |argument: &&str| argument.split('=').next().unwrap_or(argument).trim() == "inner";
        let [lo, hi, ..] =
            values(GATE, gate, arguments().filter(mine).filter(|argument| !is_inner(argument)))?;
        let inner = token(inner_name, arguments().filter(|argument| !mine(argument)))?;
        Ok(Self::Thresholded(Thresholded::new(inner, lo, hi)?))
    }
}

impl Composite {
    /// Reads a sum: what [`Objective::parse`] reads, and row objectives, with `+` between them.
    ///
    /// ```text
    /// nll
    /// label_smoothing:epsilon=0.1 + z_loss:lambda=1e-4
    /// thresholded:inner=nll,lo=0.2 + entropy:lambda=-0.01
    /// ```
    ///
    /// # Errors
    /// [`SpecError`], which quotes the part of the text that is at fault; [`Error::Terms`] for more than
    /// [`MAX_TERMS`](crate::MAX_TERMS).
    pub fn parse(spec: &str) -> Result<Self, SpecError<'_>> {
        let mut sum: Option<Self> = None;
        for text in terms(spec) {
            let term = term(text.trim())?;
            sum = Some(match sum {
                None => term.into(),
                Some(sum) => sum.plus(term)?,
            });
        }
        sum.ok_or(SpecError::UnknownTerm(spec))
    }
}

/// The text between the `+`, of which one in an exponent (`1e+4`) is none.
fn terms(spec: &str) -> impl Iterator<Item = &str> {
    let exponent = |at: usize| {
        let mut before = spec[..at].chars().rev();
        matches!(before.next(), Some('e' | 'E'))
            && before.next().is_some_and(|c| c.is_ascii_digit() || c == '.')
    };
    let mut start = 0;
    let cuts = spec.char_indices().filter(move |&(at, c)| c == '+' && !exponent(at)).map(|(at, _)| at);
    cuts.chain(core::iter::once(spec.len())).map(move |end| {
        let text = &spec[start..end];
        start = end + 1;
        text
    })
}

fn term(spec: &str) -> Result<Term, SpecError<'_>> {
    let (name, arguments) = spec.split_once(':').map_or((spec, None), |(name, rest)| (name, Some(rest)));
    if let Some(parameters) = AnyRow::parameters_of(name) {
        let values = values(name, parameters, arguments.into_iter().flat_map(|rest| rest.split(',')))?;
        let row = AnyRow::with_parameters(name, values).ok_or(SpecError::UnknownTerm(name))?;
        return Ok(Term::Row(row?));
    }
    match Objective::parse(spec) {
        Err(SpecError::Unknown(name)) => Err(SpecError::UnknownTerm(name)),
        objective => objective.map(Term::Token),
    }
}

fn token<'a>(name: &'a str, arguments: impl Iterator<Item = &'a str>) -> Result<AnyToken, SpecError<'a>> {
    let parameters = AnyToken::parameters_of(name).ok_or(SpecError::Unknown(name))?;
    let values = values(name, parameters, arguments)?;
    AnyToken::with_parameters(name, values).ok_or(SpecError::Unknown(name))?.map_err(Into::into)
}

fn values<'a>(
    objective: &'a str,
    parameters: &'static [crate::Parameter],
    arguments: impl Iterator<Item = &'a str>,
) -> Result<[f32; MAX_PARAMETERS], SpecError<'a>> {
    let mut values = [None; MAX_PARAMETERS];
    for argument in arguments {
        let (key, value) = argument.split_once('=').unwrap_or((argument, ""));
        let (key, value) = (key.trim(), value.trim());
        let at = parameters
            .iter()
            .position(|p| p.name == key)
            .ok_or(SpecError::Parameter { objective, parameter: key })?;
        let number = number(key, value)?;
        if values[at].replace(number).is_some() {
            return Err(SpecError::Twice(key));
        }
    }
    let default = |at: usize| parameters.get(at).map_or(0.0, |p| p.default);
    Ok(core::array::from_fn(|at| values[at].unwrap_or_else(|| default(at))))
}

fn number<'a>(parameter: &'a str, value: &'a str) -> Result<f32, SpecError<'a>> {
    value.parse().ok().filter(|x: &f32| x.is_finite()).ok_or(SpecError::Value { parameter, value })
}

fn paper_key(spec: &str) -> Result<Option<Objective>, SpecError<'_>> {
    let power = |alpha| AnyToken::with_parameters("power", [alpha, 0.0, 0.0, 0.0]);
    let named = |name| AnyToken::with_parameters(name, defaults(name));
    let plain = match spec {
        "original" | "logp" => named("nll"),
        "p" => power(1.0),
        _ => None,
    };
    if let Some(objective) = plain {
        return Ok(Some(Objective::Token(objective?)));
    }
    let Some((key, value)) = spec.split_once('-') else { return Ok(None) };
    let inner = match key {
        "GeneralFamily" | "convexity" => power(number(key, value)?),
        "OnlyTopP" | "OnlyBottomP" => power(1.0),
        "OnlyTopLogP" | "OnlyBottomLogP" => named("nll"),
        "UnlikehoodTop" | "UnlikehoodBottom" => named("unlikelihood"),
        _ => None,
    };
    let Some(inner) = inner else { return Ok(None) };
    let inner = inner?;
    if matches!(key, "GeneralFamily" | "convexity") {
        return Ok(Some(Objective::Token(inner)));
    }
    let q = number(key, value)?;
    let (lo, hi) = if key.contains("Top") { (q, 1.0) } else { (0.0, q) };
    Ok(Some(Objective::Thresholded(Thresholded::new(inner, lo, hi)?)))
}

fn defaults(name: &str) -> [f32; MAX_PARAMETERS] {
    let parameters = AnyToken::parameters_of(name).unwrap_or(&[]);
    core::array::from_fn(|at| parameters.get(at).map_or(0.0, |p| p.default))
}

fn write_spec(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    parameters: &[crate::Parameter],
    values: [f32; MAX_PARAMETERS],
) -> fmt::Result {
    f.write_str(name)?;
    for (i, (parameter, value)) in parameters.iter().zip(values).enumerate() {
        write!(f, "{}{}={value}", if i == 0 { ':' } else { ',' }, parameter.name)?;
    }
    Ok(())
}

impl fmt::Display for AnyToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parameters = Self::parameters_of(self.name()).unwrap_or(&[]);
        write_spec(f, self.name(), parameters, self.parameters())
    }
}

impl fmt::Display for AnyRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parameters = Self::parameters_of(self.name()).unwrap_or(&[]);
        write_spec(f, self.name(), parameters, self.parameters())
    }
}

/// Writes a spec that [`Objective::parse`] reads back as the same objective.
impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(objective) => objective.fmt(f),
            Self::Thresholded(Thresholded { inner, lo, hi }) => {
                write!(f, "{GATE}:inner={}", inner.name())?;
                let parameters = AnyToken::parameters_of(inner.name()).unwrap_or(&[]);
                for (parameter, value) in parameters.iter().zip(inner.parameters()) {
                    write!(f, ",{}={value}", parameter.name)?;
                }
                write!(f, ",lo={lo},hi={hi}")
            }
        }
    }
}
