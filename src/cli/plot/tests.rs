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
    insta::assert_snapshot!(drawn(&days((0..300).map(|day| if (100..180).contains(&day) { NULL } else { wave(day) }))));
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
