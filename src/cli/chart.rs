//! Series as a picture: labelled series in, an SVG document out. Nulls, infinite values and long pauses are gaps, as in
//! the terminal's plot, whose axes it shares. The legend stands above the curves, never on them.

use anyhow::{anyhow, ensure};
use plotters::coord::ranged1d::{KeyPointHint, KeyPointWeight, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;

use super::axis::{TimeMark, ValueAxis, time_marks, value_axis};
use super::plot::segments;
use crate::series::{Series, TimeNs};

const WIDTH: u32 = 960;

/// The height of the curves with their axes; the legend comes on top of it.
const HEIGHT: u32 = 400;

/// Up to so many observations a curve shows each as a dot: where there are more, dots would hide the line.
const MOST_DOTS: usize = 80;

/// What a sans-serif letter of the legend takes at most, on average: fonts differ from viewer to viewer.
const LETTER_WIDTH: usize = 8;

/// A label longer than this is cut: it would not fit into a line.
const MOST_LETTERS: usize = 104;

const LEGEND_LINE: i32 = 22;
const MARGIN: i32 = 16;

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

/// Draws the finite values of the series on common axes; `unit` is written along the axis of values.
///
/// # Errors
/// When there is nothing to draw.
pub(super) fn svg(curves: &[(&str, &Series)], unit: &str) -> anyhow::Result<String> {
    let scale = Scale::of(curves);
    ensure!(scale.is_some(), "nothing to draw: no row has a finite value");
    let mut text = String::new();
    if let Some(scale) = scale {
        draw(curves, unit, &scale, &mut text).map_err(|error| anyhow!("the picture cannot be drawn: {error}"))?;
    }
    Ok(text)
}

/// Where each entry of the legend begins.
struct Legend {
    places: Vec<(i32, i32)>,
    labels: Vec<String>,
    lines: i32,
}

const SAMPLE_WIDTH: i32 = 26;

impl Legend {
    fn of(curves: &[(&str, &Series)]) -> Self {
        let mut legend = Self { places: Vec::new(), labels: Vec::new(), lines: 1 };
        let mut right = MARGIN;
        for (label, _) in curves {
            let label = shortened(label);
            let letters = label.chars().count() * LETTER_WIDTH;
            let width = SAMPLE_WIDTH + i32::try_from(letters).unwrap_or(i32::MAX / 2) + 2 * MARGIN;
            if right > MARGIN && right + width > WIDTH.cast_signed() {
                right = MARGIN;
                legend.lines += 1;
            }
            legend.places.push((right, MARGIN + (legend.lines - 1) * LEGEND_LINE));
            legend.labels.push(label);
            right += width;
        }
        legend
    }

    fn height(&self) -> i32 {
        MARGIN + self.lines * LEGEND_LINE
    }
}

fn shortened(label: &str) -> String {
    if label.chars().count() <= MOST_LETTERS {
        return label.to_owned();
    }
    label.chars().take(MOST_LETTERS - 1).chain(['…']).collect()
}

/// Colours repeat after the sixth curve; the thinner line tells then.
fn style(index: usize) -> ShapeStyle {
    let colour = COLOURS[index % COLOURS.len()];
    colour.stroke_width(if index < COLOURS.len() { 2 } else { 1 })
}

fn draw(
    curves: &[(&str, &Series)],
    unit: &str,
    scale: &Scale,
    text: &mut String,
) -> Result<(), Box<dyn std::error::Error>> {
    let legend = Legend::of(curves);
    let height = HEIGHT + legend.height().unsigned_abs();
    let picture = SVGBackend::with_string(text, (WIDTH, height)).into_drawing_area();
    picture.fill(&WHITE)?;
    let font = ("sans-serif", 15).into_font().color(&RGBColor(70, 70, 70));
    for (index, (label, &(x, y))) in legend.labels.iter().zip(&legend.places).enumerate() {
        picture.draw(&PathElement::new(vec![(x, y), (x + SAMPLE_WIDTH - 8, y)], style(index)))?;
        picture.draw(&Text::new(label.as_str(), (x + SAMPLE_WIDTH, y - 6), font.clone()))?;
    }
    let (_, below) = picture.split_vertically(legend.height());
    let mut chart = ChartBuilder::on(&below)
        .margin(8)
        .margin_right(24)
        .x_label_area_size(44)
        .y_label_area_size(76)
        .build_cartesian_2d(scale.time_axis(), scale.value_axis())?;
    chart
        .configure_mesh()
        .bold_line_style(RGBColor(225, 225, 225))
        .light_line_style(TRANSPARENT)
        .axis_style(RGBColor(120, 120, 120))
        .label_style(font.clone())
        .axis_desc_style(font)
        .x_desc("time (UTC)")
        .y_desc(unit)
        .draw()?;
    for (index, (_, series)) in curves.iter().enumerate() {
        let has_dots = series.len() <= MOST_DOTS;
        for segment in segments(series) {
            let points: Vec<(f64, f64)> =
                segment.into_iter().map(|(time, value)| (scale.x(time), scale.y(value))).collect();
            // A line needs two ends; what stands alone is a dot in any case.
            if has_dots || points.len() == 1 {
                let dot = |point: &(f64, f64)| Circle::new(*point, 3, style(index).filled());
                chart.draw_series(points.iter().map(dot))?;
            }
            if points.len() > 1 {
                chart.draw_series([PathElement::new(points, style(index))])?;
            }
        }
    }
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
        let picture = svg(&[("A < B", &series)], "value").unwrap();
        assert_eq!(picture.matches("stroke-width=\"2\" points").count(), 3, "two segments and the legend: {picture}");
        assert_eq!(picture.matches("<circle").count(), 5, "few values are dots, the one alone too");
        let many = days(&[[1.0; 90].as_slice(), &[NULL, 2.0, NULL]].concat());
        assert_eq!(svg(&[("A", &many)], "value").unwrap().matches("<circle").count(), 1, "of many the one alone");
        assert!(picture.contains("A &lt; B"), "{picture}");
        insta::assert_snapshot!(picture);
    }

    #[test]
    fn metrics_share_their_axes() {
        let (low, high) = (days(&[1.0, 2.0, 3.0]), days(&[100.0, 300.0, 200.0, 400.0]));
        let picture = svg(&[("low", &low), ("high", &high)], "value").unwrap();
        assert!(picture.contains("400") && picture.contains("low") && picture.contains("high"), "{picture}");
        assert!(picture.contains("#0072B2") && picture.contains("#D55E00"), "{picture}");
    }

    #[test]
    fn the_legend_takes_as_many_lines_as_it_needs() {
        let series = days(&[1.0, 2.0]);
        let label = "a".repeat(60);
        let long = "b".repeat(200);
        let picture = svg(&[(&label, &series), (&label, &series), (&long, &series)], "value").unwrap();
        assert!(picture.contains(&format!("height=\"{}\"", 400 + 16 + 3 * 22)), "{picture}");
        assert!(picture.contains('…') && !picture.contains(&long), "a label that fits into no line is cut");
    }

    #[test]
    fn nothing_finite_is_said_so() {
        assert!(svg(&[("A", &days(&[NULL]))], "value").is_err());
        assert!(svg(&[], "value").is_err());
        assert!(svg(&[("A", &days(&[f64::MIN, f64::MAX]))], "value").unwrap().contains("polyline"));
        assert!(svg(&[("A", &days(&[5.0]))], "value").unwrap().contains("circle"));
    }
}
