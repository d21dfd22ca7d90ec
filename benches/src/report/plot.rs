//! A case as a picture: for each contender a line from the least to the most round, a box over
//! the middle half, and a stroke at the median.

use crate::goal::number;
use crate::runner::{Figures, Outcome};
use crate::spread::Spread;
use plotters::coord::Shift;
use plotters::prelude::*;

type Drawing = Box<dyn std::error::Error + Send + Sync>;

const WIDTH: u32 = 900;
const TOP: i32 = 52;
const ROW: i32 = 34;
const BOTTOM: i32 = 56;
/// Room for the names at the left, and for the medians at the right.
const LEFT: i32 = 300;
const RIGHT: i32 = 110;
const TICKS: i32 = 5;

/// Draws a case as SVG.
pub fn draw(outcome: &Outcome) -> Result<String, Drawing> {
    let height = TOP + BOTTOM + ROW * outcome.figures.len() as i32;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height as u32)).into_drawing_area();
        area.fill(&WHITE).map_err(sentence)?;
        let most = outcome
            .figures
            .iter()
            .filter_map(|f| f.spread)
            .map(|s| s.max);
        let scale = Scale(most.fold(0.0, f64::max).max(1e-9) * 1.05);
        write(&area, &outcome.title, (12, 12), 18)?;
        axis(&area, outcome, &scale, height - BOTTOM)?;
        for (row, figures) in outcome.figures.iter().enumerate() {
            contender(&area, figures, &scale, TOP + ROW * row as i32 + ROW / 2)?;
        }
        area.present().map_err(sentence)?;
    }
    Ok(svg)
}

/// Plotters' errors hold what is not `Send`.
fn sentence(error: impl std::fmt::Display) -> Drawing {
    error.to_string().into()
}

struct Scale(f64);

impl Scale {
    fn x(&self, n: f64) -> i32 {
        let room = f64::from(WIDTH as i32 - LEFT - RIGHT);
        LEFT + (n / self.0 * room).round() as i32
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn write(area: &Area<'_>, text: &str, at: (i32, i32), size: i32) -> Result<(), Drawing> {
    let style = ("sans-serif", size).into_font().color(&BLACK);
    area.draw(&Text::new(text.to_owned(), at, style))
        .map_err(sentence)
}

fn line(
    area: &Area<'_>,
    from: (i32, i32),
    to: (i32, i32),
    style: ShapeStyle,
) -> Result<(), Drawing> {
    area.draw(&PathElement::new(vec![from, to], style))
        .map_err(sentence)
}

fn axis(area: &Area<'_>, outcome: &Outcome, scale: &Scale, y: i32) -> Result<(), Drawing> {
    for tick in 0..=TICKS {
        let n = scale.0 * f64::from(tick) / f64::from(TICKS);
        let x = scale.x(n);
        line(area, (x, TOP), (x, y), BLACK.mix(0.15).stroke_width(1))?;
        write(area, &number(n), (x - 14, y + 6), 12)?;
    }
    let better = if outcome.more_is_better {
        "more"
    } else {
        "less"
    };
    write(
        area,
        &format!("{}, {better} is better", outcome.unit),
        (LEFT, y + 26),
        13,
    )
}

fn contender(area: &Area<'_>, figures: &Figures, scale: &Scale, y: i32) -> Result<(), Drawing> {
    write(area, &figures.name, (12, y - 7), 13)?;
    match figures.spread {
        Some(spread) => rounds(area, &spread, scale, y),
        None => write(area, "skipped", (LEFT + 6, y - 7), 13),
    }
}

fn rounds(area: &Area<'_>, spread: &Spread, scale: &Scale, y: i32) -> Result<(), Drawing> {
    let [min, p25, median, p75, max] = [
        spread.min,
        spread.p25,
        spread.median,
        spread.p75,
        spread.max,
    ]
    .map(|n| scale.x(n));
    line(area, (min, y), (max, y), BLUE.stroke_width(2))?;
    let corners = [(p25, y - 9), (p75.max(p25 + 1), y + 9)];
    area.draw(&Rectangle::new(corners, BLUE.mix(0.35).filled()))
        .map_err(sentence)?;
    line(
        area,
        (median, y - 11),
        (median, y + 11),
        BLACK.stroke_width(2),
    )?;
    write(area, &number(spread.median), (max + 8, y - 7), 13)
}
