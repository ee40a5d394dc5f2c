//! Pictures: drawn once as SVG, and turned into PNG from that same SVG with a font of our own, so that a
//! machine without fonts draws the same.

use anyhow::{Context, Result, bail};
use plotters::coord::Shift;
use plotters::element::{Circle, Cross, EmptyElement, PathElement, Polygon, Rectangle, TriangleMarker};
use plotters::prelude::{Color, DrawingArea, IntoDrawingArea, IntoFont, RGBColor, SVGBackend, ShapeStyle};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontTransform, TextStyle};
use resvg::{tiny_skia, usvg};
use std::path::{Path, PathBuf};

/// What everything is drawn on, in pixels from the top left.
pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Text.
pub(crate) const INK: RGBColor = RGBColor(34, 34, 34);
/// Lesser text.
pub(crate) const GREY: RGBColor = RGBColor(105, 105, 105);
const GRID: RGBColor = RGBColor(226, 226, 226);

/// The colours of Okabe and Ito, which people of every colour vision tell apart; no two lines that meet share
/// a marker either.
const SERIES: [RGBColor; 8] = [
    RGBColor(0, 0, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(130, 130, 130),
];

/// The colour of a series.
pub(crate) fn colour(series: usize) -> RGBColor {
    SERIES[series % SERIES.len()]
}

/// Where a text stands relative to its point.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Anchor {
    /// The point is at its left end.
    Start,
    /// The point is in its middle.
    Middle,
    /// The point is at its right end.
    End,
}

fn style<'a>(size: i32, colour: RGBColor, anchor: Anchor) -> TextStyle<'a> {
    let h_pos = match anchor {
        Anchor::Start => HPos::Left,
        Anchor::Middle => HPos::Center,
        Anchor::End => HPos::Right,
    };
    let font = ("Ubuntu, Helvetica, Arial, sans-serif", size).into_font();
    TextStyle { pos: Pos::new(h_pos, VPos::Center), ..font.color(&colour) }
}

/// Text, its middle at the height of the point.
pub(crate) fn text(
    area: &Area<'_>,
    what: &str,
    at: (i32, i32),
    size: i32,
    colour: RGBColor,
    anchor: Anchor,
) -> Result<()> {
    Ok(area.draw_text(what, &style(size, colour, anchor), at)?)
}

/// A straight or broken line.
pub(crate) fn path(area: &Area<'_>, points: Vec<(i32, i32)>, colour: RGBColor, width: u32) -> Result<()> {
    Ok(area.draw(&PathElement::new(points, ShapeStyle::from(&colour).stroke_width(width)))?)
}

/// A filled rectangle.
pub(crate) fn rectangle(area: &Area<'_>, corners: [(i32, i32); 2], colour: RGBColor) -> Result<()> {
    Ok(area.draw(&Rectangle::new(corners, colour.filled()))?)
}

/// The marker of a series.
pub(crate) fn marker(area: &Area<'_>, series: usize, at: (i32, i32)) -> Result<()> {
    let colour = colour(series);
    let around = |d: i32| [(at.0 - d, at.1 - d), (at.0 + d, at.1 + d)];
    match series % 5 {
        0 => area.draw(&Circle::new(at, 5, colour.filled()))?,
        1 => area.draw(&Rectangle::new(around(4), colour.filled()))?,
        2 => {
            let diamond = vec![(at.0, at.1 - 6), (at.0 + 6, at.1), (at.0, at.1 + 6), (at.0 - 6, at.1)];
            area.draw(&Polygon::new(diamond, colour.filled()))?;
        }
        3 => area.draw(&(EmptyElement::at(at) + TriangleMarker::new((0, 0), 6, colour.filled())))?,
        _ => area.draw(&Cross::new(at, 4, ShapeStyle::from(&colour).stroke_width(3)))?,
    }
    Ok(())
}

/// The width of a letter of the legend, about.
fn width(letter: char) -> i32 {
    match letter {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ' ' => 5,
        'f' | 'r' | 't' => 7,
        'm' | 'w' => 14,
        _ => 9,
    }
}

/// The name of each series beside its marker, in one row.
pub(crate) fn legend(area: &Area<'_>, names: &[&str], from: (i32, i32)) -> Result<()> {
    let mut x = from.0;
    for (series, name) in names.iter().enumerate() {
        path(area, vec![(x, from.1), (x + 30, from.1)], colour(series), 2)?;
        marker(area, series, (x + 15, from.1))?;
        text(area, name, (x + 38, from.1), 18, INK, Anchor::Start)?;
        x += 38 + name.chars().map(width).sum::<i32>() + 26;
    }
    Ok(())
}

/// A pair of axes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panel {
    /// Left, top, right, bottom, in pixels.
    pub(crate) frame: [i32; 4],
    /// The values at the left and at the right.
    pub(crate) x: (f64, f64),
    /// The values at the bottom and at the top.
    pub(crate) y: (f64, f64),
}

impl Panel {
    /// The pixel of a point.
    pub(crate) fn at(&self, x: f64, y: f64) -> (i32, i32) {
        let [left, top, right, bottom] = self.frame.map(f64::from);
        let along = |v: f64, (from, to): (f64, f64)| (v - from) / (to - from);
        let px = left + along(x, self.x) * (right - left);
        let py = bottom - along(y, self.y) * (bottom - top);
        (px.round() as i32, py.round() as i32)
    }

    /// Grid lines, ticks and the names of the axes.
    pub(crate) fn axes(
        &self,
        area: &Area<'_>,
        x_ticks: &[(f64, String)],
        y_ticks: &[(f64, String)],
        x_name: &str,
        y_name: &str,
    ) -> Result<()> {
        let [left, top, right, bottom] = self.frame;
        for (y, name) in y_ticks {
            let (_, py) = self.at(self.x.0, *y);
            path(area, vec![(left, py), (right, py)], GRID, 1)?;
            text(area, name, (left - 8, py), 17, GREY, Anchor::End)?;
        }
        path(area, vec![(left, bottom), (right, bottom)], GREY, 1)?;
        for (x, name) in x_ticks {
            let (px, _) = self.at(*x, self.y.0);
            path(area, vec![(px, bottom), (px, bottom + 5)], GREY, 1)?;
            text(area, name, (px, bottom + 17), 17, GREY, Anchor::Middle)?;
        }
        text(area, x_name, ((left + right) / 2, bottom + 42), 18, INK, Anchor::Middle)?;
        let upright = style(18, INK, Anchor::Middle);
        let vertical = TextStyle { font: upright.font.transform(FontTransform::Rotate270), ..upright };
        Ok(area.draw_text(y_name, &vertical, (left - 58, (top + bottom) / 2))?)
    }

    /// A line through points, with its markers.
    pub(crate) fn line(
        &self,
        area: &Area<'_>,
        series: usize,
        points: &[(f64, f64)],
        markers: bool,
    ) -> Result<()> {
        let pixels: Vec<_> = points.iter().map(|&(x, y)| self.at(x, y)).collect();
        path(area, pixels.clone(), colour(series), 2)?;
        if markers {
            pixels.into_iter().try_for_each(|at| marker(area, series, at))?;
        }
        Ok(())
    }

    /// From `low` to `high` at `x`.
    pub(crate) fn error_bar(
        &self,
        area: &Area<'_>,
        series: usize,
        x: f64,
        low: f64,
        high: f64,
    ) -> Result<()> {
        let clamp = |y: f64| y.clamp(self.y.0, self.y.1);
        let ((px, low), (_, high)) = (self.at(x, clamp(low)), self.at(x, clamp(high)));
        for y in [low, high] {
            path(area, vec![(px - 4, y), (px + 4, y)], colour(series), 1)?;
        }
        path(area, vec![(px, low), (px, high)], colour(series), 1)
    }

    /// A dashed level with a name at its right end: above, or below if it is high up.
    pub(crate) fn level(&self, area: &Area<'_>, y: f64, name: &str) -> Result<()> {
        let (left, py) = self.at(self.x.0, y);
        let right = self.frame[2];
        for from in (left..right).step_by(10) {
            path(area, vec![(from, py), ((from + 5).min(right), py)], GREY, 1)?;
        }
        let high = py < self.frame[1] + 60;
        text(area, name, (right, if high { py + 11 } else { py - 9 }), 15, GREY, Anchor::End)
    }
}

/// Round numbers for an axis from `low` to `high`, about `count` of them, each with its text and `unit`.
pub(crate) fn ticks(low: f64, high: f64, count: usize, unit: &str) -> Vec<(f64, String)> {
    let rough = ((high - low) / count as f64).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * power);
    let step = steps.into_iter().find(|step| *step >= 0.999 * rough).unwrap_or(rough);
    let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
    let decimals = (0..9).find(|d| (step * 10f64.powi(*d)).fract().abs() < 1e-6).unwrap_or(9) as usize;
    (first..=last).map(|i| i as f64 * step).map(|x| (x, format!("{x:.decimals$}{unit}"))).collect()
}

/// An SVG of the given size.
pub(crate) fn svg(size: (u32, u32), paint: impl FnOnce(&Area<'_>) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&RGBColor(255, 255, 255))?;
        paint(&area)?;
        area.present()?;
    }
    Ok(svg)
}

/// Pixels of the PNG for each unit of the SVG.
const ZOOM: f32 = 2.0;

fn png(svg: &str) -> Result<Vec<u8>> {
    let mut options = usvg::Options::default();
    let fonts = options.fontdb_mut();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    fonts.set_sans_serif_family("Ubuntu");
    options.font_family = "Ubuntu".to_owned();
    let tree = usvg::Tree::from_str(svg, &options)?;
    let size = tree.size().to_int_size().scale_by(ZOOM).context("picture: no pixels")?;
    let mut pixels = tiny_skia::Pixmap::new(size.width(), size.height()).context("picture: no pixels")?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(ZOOM, ZOOM), &mut pixels.as_mut());
    Ok(pixels.encode_png()?)
}

/// Writes a picture as what the extension says: `.svg` or `.png`.
pub(crate) fn save(svg: &str, file: &Path) -> Result<()> {
    match file.extension().and_then(|e| e.to_str()) {
        Some("svg") => crate::files::write(file, svg.as_bytes()),
        Some("png") => crate::files::write(file, &png(svg)?),
        other => {
            bail!("{}: the extension is {}, expected svg or png", file.display(), other.unwrap_or("missing"))
        }
    }
}

/// Writes `PREFIX.svg` and `PREFIX.png`, and returns both names.
pub(crate) fn save_both(svg: &str, prefix: &Path) -> Result<[PathBuf; 2]> {
    let files = ["svg", "png"].map(|extension| {
        let mut name = prefix.as_os_str().to_owned();
        name.push(".");
        name.push(extension);
        PathBuf::from(name)
    });
    files.iter().try_for_each(|file| save(svg, file))?;
    Ok(files)
}

/// Fails before a long computation does in vain what cannot be saved.
pub(crate) fn check_prefix(prefix: &Path) -> Result<()> {
    let folder = prefix.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        bail!("{}: cannot be written: no folder {}", prefix.display(), folder.display());
    }
    Ok(())
}
