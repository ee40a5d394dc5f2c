//! `tokenloss objectives`: the catalogue, and what each token objective does to a token of probability p.

use crate::draw::{self, Anchor, GREY, INK, Panel, text};
use anyhow::Result;
use clap::Args;
use comfy_table::{Table, presets};
use std::path::PathBuf;
use tokenloss::theory::{leaning, peak, share_above, weight};
use tokenloss::{
    AnyToken, CATALOGUE, Kind, Listed, Markdown, Objective, Parameter, Thresholded, TokenObjective,
};

/// Options of `tokenloss objectives`.
#[derive(Debug, Args)]
pub(crate) struct Objectives {
    /// Draw f and W of every objective over p; .png works, too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Only this kind, such as preference
    #[arg(long, value_name = "KIND", value_parser = clap::builder::PossibleValuesParser::new(kinds()))]
    kind: Option<String>,
    /// Print the whole catalogue as the README has it
    #[arg(long, conflicts_with_all = ["kind", "json"])]
    markdown: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn kinds() -> Vec<&'static str> {
    CATALOGUE.iter().map(|kind| kind.name).collect()
}

/// A token objective with its default parameters.
struct Shown {
    name: &'static str,
    objective: Objective,
    note: &'static str,
}

fn entries() -> Result<Vec<Shown>> {
    let token = |&name: &&'static str| {
        let objective = Objective::parse(name).map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(Shown { name, objective, note: "" })
    };
    let mut entries = AnyToken::NAMES.iter().map(token).collect::<Result<Vec<_>>>()?;
    let example = "thresholded:inner=nll,lo=0.2";
    entries.push(Shown {
        name: Thresholded::<AnyToken>::NAME,
        objective: Objective::parse(example).map_err(|error| anyhow::anyhow!("{error}"))?,
        note: "W of inner=nll, lo=0.2",
    });
    Ok(entries)
}

impl Objectives {
    /// Runs it.
    pub(crate) fn run(self) -> Result<()> {
        let entries = entries()?;
        if let Some(file) = &self.svg {
            draw::save(&picture(&entries)?, file)?;
            eprintln!("wrote {}", file.display());
        }
        let shown =
            || CATALOGUE.iter().filter(|kind| self.kind.as_ref().is_none_or(|name| name == kind.name));
        if self.markdown {
            print!("{Markdown}");
        } else if self.json {
            println!("{:#}", serde_json::Value::from_iter(shown().map(|kind| json(kind, &entries))));
        } else {
            for (at, kind) in shown().enumerate() {
                let Kind { name, of, backed_by, .. } = kind;
                println!("{}{name}: a function of {of}. {backed_by}.", if at == 0 { "" } else { "\n" });
                println!("{}", listing(kind));
            }
            if shown().any(|kind| kind.name == "token" || kind.name == "gate") {
                println!("\nWhat token objectives ask of a token of probability p:");
                println!("{}", table(&entries));
                println!(
                    "W(p) = -slope (1 - p) is the push on the target's logit, at the default parameters. An"
                );
                println!(
                    "objective leans by its share of W above p = 1/2. Write name:parameter=value,... on the"
                );
                println!("command line; thresholded takes inner=NAME and its parameters, too.");
            }
            if shown().any(|kind| kind.name == "row") {
                println!("\nToken and row objectives may be added up: 'nll + z_loss:lambda=0.001'.");
            }
        }
        Ok(())
    }
}

/// A kind, with what is known of its token objectives.
fn json(kind: &Kind, entries: &[Shown]) -> serde_json::Value {
    let objectives = kind.entries.iter().map(|entry| {
        let parameters = entry
            .parameters
            .iter()
            .map(|p| serde_json::json!({ "name": p.name, "default": p.default, "min": p.min, "max": p.max }));
        let mut value = serde_json::json!({
            "name": entry.name,
            "parameters": parameters.collect::<Vec<_>>(),
            "source": entry.source,
        });
        if let Some(Shown { objective, .. }) = entries.iter().find(|token| token.name == entry.name) {
            value["shown"] = objective.to_string().into();
            value["peak_p"] = peak(objective).p.into();
            value["peak_weight"] = peak(objective).weight.into();
            value["share_above_half"] = share_above(objective, 0.5).into();
            value["leaning"] = leaning(objective).to_string().into();
        }
        value
    });
    serde_json::json!({
        "kind": kind.name,
        "of": kind.of,
        "backed_by": kind.backed_by,
        "objectives": objectives.collect::<Vec<_>>(),
    })
}

/// A kind's objectives with their parameters and sources.
fn listing(kind: &Kind) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header([kind.name, "parameter", "default", "domain", "source"]);
    for entry in kind.entries {
        let column =
            |of: fn(&Parameter) -> String| entry.parameters.iter().map(of).collect::<Vec<_>>().join("\n");
        table.add_row([
            entry.name.to_owned(),
            column(|p| p.name.to_owned()),
            column(|p| p.default.to_string()),
            column(|p| format!("{} to {}", p.min, p.max)),
            entry.source.to_owned(),
        ]);
    }
    table
}

fn table(entries: &[Shown]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["objective", "W peaks at p", "W there", "leaning", ""]);
    for entry in entries {
        let Shown { name, objective, note } = entry;
        let peak = peak(objective);
        table.add_row([
            (*name).to_owned(),
            format!("{:.3}", peak.p),
            format!("{:.3}", peak.weight),
            leaning(objective).to_string(),
            (*note).to_owned(),
        ]);
    }
    table
}

fn picture(entries: &[Shown]) -> Result<String> {
    draw::svg((1240, 640), |area| {
        text(area, "What each objective asks of a token of probability p", (40, 34), 27, INK, Anchor::Start)?;
        let subtitle = "at its default parameters; thresholded as inner=nll, lo=0.2";
        text(area, subtitle, (40, 64), 18, GREY, Anchor::Start)?;
        let names: Vec<&str> = entries.iter().map(|entry| entry.name).collect();
        draw::legend(area, &names, (40, 98))?;
        let ends = draw::ticks(0.0, 1.0, 5, "");
        let curve = |panel: &Panel, series, of: &dyn Fn(f64) -> f64| {
            let points = (1..400).map(|i| f64::from(i) / 400.0).map(|p| (p, of(p)));
            // A line that leaves the panel is cut where it does.
            let mut pieces = vec![Vec::new()];
            for (p, y) in points {
                if y >= panel.y.0 && y <= panel.y.1 {
                    pieces.last_mut().into_iter().for_each(|piece: &mut Vec<_>| piece.push((p, y)));
                } else {
                    pieces.push(Vec::new());
                }
            }
            pieces.iter().filter(|p| p.len() > 1).try_for_each(|piece| panel.line(area, series, piece, false))
        };
        let marks = |panel: &Panel, series: usize, of: &dyn Fn(f64) -> f64| {
            let at = [0.0, 0.25, 0.5, 0.75].map(|x| x + 0.03 + 0.027 * series as f64);
            let inside = at.into_iter().filter(|&p| of(p) >= panel.y.0 && of(p) <= panel.y.1);
            inside.map(|p| panel.at(p, of(p))).try_for_each(|at| draw::marker(area, series, at))
        };
        let panels = [
            (Panel { frame: [110, 140, 590, 560], x: (0.0, 1.0), y: (-4.0, 4.0) }, "f(p), the loss"),
            (
                Panel { frame: [730, 140, 1210, 560], x: (0.0, 1.0), y: (0.0, 1.2) },
                "W(p), the push on the target",
            ),
        ];
        for (which, (panel, name)) in panels.iter().enumerate() {
            let ticks = draw::ticks(panel.y.0, panel.y.1, 6, "");
            panel.axes(area, &ends, &ticks, "p", name)?;
            for (series, entry) in entries.iter().enumerate() {
                let loss = |p: f64| entry.objective.of_log_p(p.ln()).loss;
                let push = |p: f64| weight(&entry.objective, p);
                let of: &dyn Fn(f64) -> f64 = if which == 0 { &loss } else { &push };
                curve(panel, series, of)?;
                marks(panel, series, of)?;
            }
        }
        Ok(())
    })
}
