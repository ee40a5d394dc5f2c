//! What the twins of divergences and of label objectives share: both are functions of a class.

use std::fmt::Write;
use tokenloss_core::MAX_PARAMETERS;

/// The values of parameters, as the uniform holds them.
pub(crate) fn parameters(values: Vec<f32>) -> [f32; MAX_PARAMETERS] {
    let mut all = [0.0; MAX_PARAMETERS];
    all.iter_mut().zip(values).for_each(|(into, value)| *into = value);
    all
}

/// A text with those of the list that it calls, by name.
pub(crate) fn with_called(name: &str, mut text: String, listed: &[(&str, &str)]) -> String {
    let mut missing: Vec<_> = listed.iter().filter(|(listed, _)| *listed != name).collect();
    // What is called may call others.
    while let Some(at) = missing.iter().position(|(_, wgsl)| functions(wgsl).any(|name| calls(&text, name))) {
        text += missing.remove(at).1;
    }
    text
}

/// The call of a function, by what comes before its parameters.
pub(crate) fn call(name: &str, first: &str, parameters: usize) -> String {
    let mut call = format!("{name}({first}");
    for at in 0..parameters.min(MAX_PARAMETERS) {
        let _ = write!(call, ", params.divergence[{at}]");
    }
    call + ")"
}

/// The names of a text's functions.
fn functions(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix("fn ")?.split('(').next())
}

/// Whether a text calls a function.
fn calls(text: &str, name: &str) -> bool {
    let in_name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(&format!("{name}(")).any(|(at, _)| !text[..at].ends_with(in_name))
}

/// Every line of a list is its file; an enum of them is the one that it holds.
macro_rules! twins {
    (
        $(#[$doc:meta])* $list:ident $folder:literal $trait:ident $any:ident $path:ident $more:tt
        $($module:ident $type:ident { $($parameter:tt)* } $source:literal)*
    ) => {
        $(#[$doc])*
        pub const $list: &[(&str, &str)] = &[
            $((stringify!($module), include_str!(concat!($folder, stringify!($module), ".wgsl"))),)*
        ];

        $(
            of_class::twins! { @ one $trait, $path::$type, $more,
                Self::NAME.into(),
                include_str!(concat!($folder, stringify!($module), ".wgsl")).into(),
                Listed::parameters(one)[..Self::PARAMETERS.len()].to_vec()
            }
        )*

        trait AnyShader {
            fn as_shader(&self) -> &dyn $trait;
        }

        impl AnyShader for $any {
            fn as_shader(&self) -> &dyn $trait {
                match self { $(Self::$type(one) => one),* }
            }
        }

        of_class::twins! { @ one $trait, $any, $more,
            one.as_shader().name(), one.as_shader().wgsl(), one.as_shader().parameters()
        }
    };
    (@ $one:ident $trait:ident, $type:ty, { $($more:tt)* }, $name:expr, $wgsl:expr, $parameters:expr) => {
        // What a line of the list is called follows from its type.
        #[allow(unused_variables)]
        impl $trait for $type {
            fn name(&self) -> Cow<'static, str> {
                let $one = self;
                $name
            }
            fn wgsl(&self) -> Cow<'static, str> {
                let $one = self;
                $wgsl
            }
            fn parameters(&self) -> Vec<f32> {
                let $one = self;
                $parameters
            }
            $($more)*
        }
    };
}
pub(crate) use twins;
