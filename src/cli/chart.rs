//! Series as a picture: labelled series in, an SVG document out. Nulls, infinite values and long pauses are gaps, as in
//! the terminal's plot, whose axes it shares.

use anyhow::{anyhow, ensure};
use plotters::coord::ranged1d::{KeyPointHint, KeyPointWeight, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;

use super::axis::{TimeMark, ValueAxis, time_marks, value_axis};
use super::plot::segments;
use crate::series::{Series, TimeNs};

const SIZE: (u32, u32) = (960, 420);

/// Marks of the time axis are as far apart as labels are on a terminal of so many columns.
const TIME_COLUMNS: usize = 110;

/// Told apart by colour-blind readers too: Okabe and Ito, *Color Universal Design*, 2008.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

/// Where times and values lie in the picture, both from 0 to 1: no difference of two floats is too large for that.
struct Scale {
    first: TimeNs,
    last: TimeNs,
    values: ValueAxis,
    marks: Vec<TimeMark>,
}

impl Scale {
    fn of(curves: &[(&str, &Series)]) -> Option<Self> {
        let times = || curves.iter().flat_map(|(_, series)| series.times());
        let finite =
            || curves.iter().flat_map(|(_, series)| series.values()).copied().filter(|value| value.is_finite());
        let (first, last) = (*times().min()?, *times().max()?);
        finite().next()?;
        let values = value_axis(finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
        Some(Self { first, last, values, marks: time_marks(first, last, TIME_COLUMNS) })
    }

    #[expect(clippy::cast_precision_loss, reason = "a pixel is far wider than what is lost")]
    fn x(&self, time: TimeNs) -> f64 {
        let (part, whole) = (i128::from(time) - i128::from(self.first), i128::from(self.last) - i128::from(self.first));
        if whole == 0 { 0.5 } else { part as f64 / whole as f64 }
    }

    fn y(&self, value: f64) -> f64 {
        let ValueAxis { low, high, .. } = self.values;
        (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0)
    }

    fn time_axis(&self) -> Axis {
        Axis(self.marks.iter().map(|mark| (self.x(mark.time), mark.label.clone())).collect())
    }

    #[expect(clippy::cast_precision_loss, reason = "an axis has five marks")]
    fn value_axis(&self) -> Axis {
        let labels = &self.values.labels;
        let last = labels.len().saturating_sub(1).max(1) as f64;
        Axis(labels.iter().enumerate().map(|(index, label)| (index as f64 / last, label.clone())).collect())
    }
}

/// An axis from 0 to 1 and what is written on it.
struct Axis(Vec<(f64, String)>);

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, (first, last): (i32, i32)) -> i32 {
        let (first, last) = (f64::from(first), f64::from(last));
        pixel(first + place * (last - first))
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        match hint.weight() {
            KeyPointWeight::Bold => self.0.iter().map(|(place, _)| *place).collect(),
            KeyPointWeight::Any => Vec::new(),
        }
    }

    fn range(&self) -> std::ops::Range<f64> {
        0.0..1.0
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, place: &f64) -> String {
        let mark = self.0.iter().find(|(mark, _)| (mark - place).abs() < 1e-9);
        mark.map_or_else(String::new, |(_, label)| label.clone())
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the picture has a thousand pixels")]
fn pixel(place: f64) -> i32 {
    place.round() as i32
}

/// Draws the finite values of the series on common axes.
///
/// # Errors
/// When there is nothing to draw.
pub(super) fn svg(curves: &[(&str, &Series)]) -> anyhow::Result<String> {
    let scale = Scale::of(curves);
    ensure!(scale.is_some(), "nothing to draw: no row has a finite value");
    let mut text = String::new();
    if let Some(scale) = scale {
        draw(curves, &scale, &mut text).map_err(|error| anyhow!("the picture cannot be drawn: {error}"))?;
    }
    Ok(text)
}

fn draw(curves: &[(&str, &Series)], scale: &Scale, text: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let picture = SVGBackend::with_string(text, SIZE).into_drawing_area();
    picture.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&picture)
        .margin(16)
        .x_label_area_size(32)
        .y_label_area_size(72)
        .build_cartesian_2d(scale.time_axis(), scale.value_axis())?;
    chart
        .configure_mesh()
        .bold_line_style(RGBColor(225, 225, 225))
        .light_line_style(TRANSPARENT)
        .axis_style(RGBColor(120, 120, 120))
        .label_style(("sans-serif", 13).into_font().color(&RGBColor(70, 70, 70)))
        .draw()?;
    for (index, (label, series)) in curves.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let style = colour.stroke_width(2);
        let mut lines = Vec::new();
        for segment in segments(series) {
            let points: Vec<(f64, f64)> =
                segment.into_iter().map(|(time, value)| (scale.x(time), scale.y(value))).collect();
            match points.as_slice() {
                // A line needs two ends.
                [alone] => {
                    chart.draw_series(std::iter::once(Circle::new(*alone, 2, colour.filled())))?;
                }
                _ => lines.push(PathElement::new(points, style)),
            }
        }
        chart
            .draw_series(lines)?
            .label(*label)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .label_font(("sans-serif", 13))
        .draw()?;
    picture.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::NULL;

    const DAY_NS: TimeNs = 86_400_000_000_000;

    fn days(values: &[f64]) -> Series {
        let times = (0..i64::try_from(values.len()).unwrap()).map(|day| day * DAY_NS).collect();
        Series::new(times, values.to_vec()).unwrap()
    }

    #[test]
    fn a_gap_is_not_drawn_over() {
        let series = days(&[1.0, 2.0, NULL, 3.0, 4.0, f64::INFINITY, 2.5, NULL]);
        let picture = svg(&[("A < B", &series)]).unwrap();
        assert_eq!(picture.matches("stroke-width=\"2\" points").count(), 3, "two segments and the legend: {picture}");
        assert_eq!(picture.matches("<circle").count(), 1, "a value alone is a dot");
        assert!(picture.contains("A &lt; B"), "{picture}");
        insta::assert_snapshot!(picture);
    }

    #[test]
    fn metrics_share_their_axes() {
        let (low, high) = (days(&[1.0, 2.0, 3.0]), days(&[100.0, 300.0, 200.0, 400.0]));
        let picture = svg(&[("low", &low), ("high", &high)]).unwrap();
        assert!(picture.contains("400") && picture.contains("low") && picture.contains("high"), "{picture}");
        assert!(picture.contains("#0072B2") && picture.contains("#D55E00"), "{picture}");
    }

    #[test]
    fn nothing_finite_is_said_so() {
        assert!(svg(&[("A", &days(&[NULL]))]).is_err());
        assert!(svg(&[]).is_err());
        assert!(svg(&[("A", &days(&[f64::MIN, f64::MAX]))]).unwrap().contains("polyline"));
        assert!(svg(&[("A", &days(&[5.0]))]).unwrap().contains("circle"));
    }
}
