//! A series as a curve in the terminal: a series in, lines of text out. Nulls, infinite values and long pauses are
//! gaps in the curve: what is not known is not drawn.

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Rect};
use ratatui::style::{Color, Style};
use ratatui::symbols::Marker;
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Widget};

use super::axis::{TimeMark, time_marks, value_axis};
use super::screen::{Colour, Screen};
use crate::series::{Series, TimeNs};

/// Rows of a plot: 13 for the curve, so that 2, 3 or 4 spaces between marks are whole rows; 2 for the time axis.
pub const HEIGHT: u16 = 15;

/// Below this a plot says nothing.
const NARROWEST: u16 = 30;

/// A pause is a gap where it is longer than so many typical steps: a bank's Easter holidays are not, a year is.
const STEPS_IN_A_GAP: i64 = 10;

/// Draws the finite values of a series, as lines of at most the screen's width.
#[must_use]
pub fn plot(series: &Series, screen: Screen) -> Vec<String> {
    let finite = || series.values().iter().copied().filter(|value| value.is_finite());
    let (Some(&first), Some(&last)) = (series.times().first(), series.times().last()) else {
        return vec!["nothing to plot: no rows".to_owned()];
    };
    if finite().next().is_none() {
        return vec!["nothing to plot: no row has a finite value".to_owned()];
    }
    let values = value_axis(finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    let place = |segment: Vec<(TimeNs, f64)>| -> Vec<(f64, f64)> {
        segment.into_iter().map(|(time, value)| (seconds(first, time), value)).collect()
    };
    let segments: Vec<Vec<(f64, f64)>> = segments(series).into_iter().map(place).collect();
    let curve = segments.iter().map(|points| {
        let dataset = Dataset::default().data(points).marker(Marker::Braille).graph_type(GraphType::Line);
        dataset.style(Style::new().fg(Color::Cyan))
    });
    let grey = Style::new().fg(Color::DarkGray);
    // One time alone lies in the middle of its axis.
    let end = seconds(first, last);
    let time_bounds = if first == last { [-1.0, 1.0] } else { [0.0, end] };
    let chart = Chart::new(curve.collect())
        // The labels are written below; empty ones make the widget draw the axis.
        .x_axis(Axis::default().bounds(time_bounds).labels(["", ""]).style(grey))
        .y_axis(
            Axis::default()
                .bounds([values.low, values.high])
                .labels(values.labels)
                .labels_alignment(Alignment::Right)
                .style(grey),
        );
    let area = Rect::new(0, 0, screen.width.max(NARROWEST), HEIGHT);
    let mut buffer = Buffer::empty(area);
    chart.render(area, &mut buffer);
    mark_times(&mut buffer, first, last, grey);
    (0..HEIGHT).map(|row| line(&buffer, row, screen)).collect()
}

/// The runs of finite values without a pause between them.
pub(super) fn segments(series: &Series) -> Vec<Vec<(TimeNs, f64)>> {
    let times = series.times();
    let longest_step = typical_step(times).saturating_mul(STEPS_IN_A_GAP);
    let mut segments: Vec<Vec<(TimeNs, f64)>> = Vec::new();
    let mut previous: Option<TimeNs> = None;
    for (&time, &value) in times.iter().zip(series.values()) {
        if !value.is_finite() {
            previous = None;
            continue;
        }
        let goes_on = previous.is_some_and(|previous| time.saturating_sub(previous) <= longest_step);
        let point = (time, value);
        match segments.last_mut() {
            Some(segment) if goes_on => segment.push(point),
            _ => segments.push(vec![point]),
        }
        previous = Some(time);
    }
    segments
}

/// The median of the steps between observations.
fn typical_step(times: &[TimeNs]) -> i64 {
    let mut steps: Vec<i64> = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    let middle = steps.len() / 2;
    if steps.is_empty() { 0 } else { *steps.select_nth_unstable(middle).1 }
}

#[expect(clippy::cast_precision_loss, reason = "a column of the plot is far wider than what is lost")]
fn seconds(first: TimeNs, time: TimeNs) -> f64 {
    time.saturating_sub(first) as f64 / 1e9
}

/// Writes marks on the time axis and their labels below it.
fn mark_times(buffer: &mut Buffer, first: TimeNs, last: TimeNs, style: Style) {
    let (axis_row, label_row) = (HEIGHT - 2, HEIGHT - 1);
    let width = buffer.area.width;
    let Some(corner) = (0..width).find(|&column| buffer[(column, axis_row)].symbol() == "└") else { return };
    let left = corner + 1;
    let span = width - left;
    let mut free_from = 0;
    for TimeMark { time, label } in time_marks(first, last, usize::from(span)) {
        let column = left + column(first, last, time, span);
        let length = u16::try_from(label.len()).unwrap_or(width);
        let start = column.saturating_sub(length / 2).min(width.saturating_sub(length));
        if start < free_from {
            continue;
        }
        buffer[(column, axis_row)].set_symbol("┬").set_style(style);
        buffer.set_string(start, label_row, label, style);
        free_from = start + length + 1;
    }
}

/// The column of a time on an axis of that many columns.
fn column(first: TimeNs, last: TimeNs, time: TimeNs, span: u16) -> u16 {
    if first == last {
        return span / 2;
    }
    let (part, whole) = (i128::from(time) - i128::from(first), i128::from(last) - i128::from(first));
    u16::try_from(part * i128::from(span - 1) / whole).unwrap_or(span - 1)
}

/// A row of the buffer as text, one escape sequence for each run of a colour.
fn line(buffer: &Buffer, row: u16, screen: Screen) -> String {
    let cells: Vec<_> = (0..buffer.area.width).map(|column| &buffer[(column, row)]).collect();
    let end = cells.iter().rposition(|cell| !is_blank(cell.symbol())).map_or(0, |last| last + 1);
    let mut text = String::new();
    for run in cells[..end].chunk_by(|a, b| a.fg == b.fg) {
        let symbols: String =
            run.iter().map(|cell| if is_blank(cell.symbol()) { " " } else { cell.symbol() }).collect();
        text += &match run[0].fg {
            Color::Cyan => screen.paint(Colour::Cyan, &symbols),
            Color::DarkGray => screen.paint(Colour::Dim, &symbols),
            _ => symbols,
        };
    }
    text
}

/// Whether a cell shows nothing: a space, or a braille pattern without dots, which some fonts draw as empty circles.
fn is_blank(symbol: &str) -> bool {
    matches!(symbol, " " | "\u{2800}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::NULL;

    const DAY_NS: TimeNs = 86_400_000_000_000;

    /// 2024-01-01T00:00:00Z
    const START_NS: TimeNs = 1_704_067_200_000_000_000;

    fn days(values: impl IntoIterator<Item = f64>) -> Series {
        let values: Vec<f64> = values.into_iter().collect();
        let times = (0..).take(values.len()).map(|day: i64| START_NS + day * DAY_NS).collect();
        Series::new(times, values).unwrap()
    }

    fn drawn(series: &Series) -> String {
        plot(series, Screen::plain(80)).join("\n")
    }

    fn wave(day: u32) -> f64 {
        (f64::from(day) / 20.0).sin()
    }

    #[test]
    fn a_wave_with_negative_values() {
        insta::assert_snapshot!(drawn(&days((0..300).map(wave))));
    }

    #[test]
    fn nulls_are_a_gap() {
        insta::assert_snapshot!(drawn(&days((0..300).map(|day| if (100..180).contains(&day) {
            NULL
        } else {
            wave(day)
        }))));
    }

    #[test]
    fn a_long_pause_is_a_gap_too() {
        let times = (0..300).filter(|day| !(100..180).contains(day)).map(|day| START_NS + day * DAY_NS).collect();
        let values = (0..300).filter(|day| !(100..180).contains(day)).map(wave).collect();
        let paused = Series::new(times, values).unwrap();
        let nulls = days((0..300).map(|day| if (100..180).contains(&day) { NULL } else { wave(day) }));
        assert_eq!(drawn(&paused), drawn(&nulls));
    }

    #[test]
    fn weekends_are_no_gap() {
        let times: Vec<TimeNs> = (0..30).filter(|day| day % 7 < 5).map(|day| START_NS + day * DAY_NS).collect();
        let values = vec![1.0; times.len()];
        assert_eq!(segments(&Series::new(times, values).unwrap()).len(), 1);
    }

    #[test]
    fn infinities_are_left_out() {
        let values = (0..60).map(|day| match day {
            20 => f64::INFINITY,
            40 => f64::NEG_INFINITY,
            _ => f64::from(day),
        });
        insta::assert_snapshot!(drawn(&days(values)));
    }

    #[test]
    fn a_constant_lies_in_the_middle() {
        insta::assert_snapshot!(drawn(&days((0..100).map(|_| 1.95583))));
    }

    #[test]
    fn a_single_point_is_a_dot() {
        insta::assert_snapshot!(drawn(&days([42.0])));
    }

    #[test]
    fn a_lonely_value_among_nulls_is_a_dot() {
        insta::assert_snapshot!(drawn(&days((0..31).map(|day| if day == 15 { 7.0 } else { NULL }))));
    }

    #[test]
    fn without_a_finite_value_there_is_nothing_to_plot() {
        assert_eq!(drawn(&days([NULL, NULL])), "nothing to plot: no row has a finite value");
        assert_eq!(drawn(&days([f64::INFINITY])), "nothing to plot: no row has a finite value");
        assert_eq!(drawn(&Series::empty()), "nothing to plot: no rows");
    }

    #[test]
    fn extreme_times_and_values_do_not_break_the_plot() {
        let series = Series::new(vec![i64::MIN, 0, i64::MAX], vec![f64::MAX, f64::MIN, f64::MAX]).unwrap();
        assert_eq!(plot(&series, Screen::plain(80)).len(), usize::from(HEIGHT));
        assert_eq!(plot(&days([0.0, 1e-300]), Screen::plain(1)).len(), usize::from(HEIGHT));
    }

    #[test]
    fn no_line_is_wider_than_the_screen_and_colours_add_no_text() {
        let series = days((0..300).map(wave));
        for width in [40, 80, 120] {
            let plain = plot(&series, Screen::plain(width));
            assert!(plain.iter().all(|line| line.chars().count() <= usize::from(width)));
            let painted = plot(&series, Screen { width, colours: true });
            let stripped: Vec<_> = painted.iter().map(|line| console::strip_ansi_codes(line).into_owned()).collect();
            assert_ne!(painted, plain);
            assert_eq!(stripped, plain);
        }
    }
}
