//! Full outer joins: operands with their own times in, one timeline and where each operand stands in it out.
//!
//! Operands with the same times, the common case, are never joined: their values go through side by side.

use std::borrow::Cow;

use crate::series::{Error, NULL, Series, TimeNs};

/// `combine` of two series at each time that either has; an operand without that time is null there.
pub(super) fn outer_join(left: &Series, right: &Series, combine: impl Fn(f64, f64) -> f64) -> Result<Series, Error> {
    if left.has_same_times(right) {
        let values = left.values().iter().zip(right.values()).map(|(&left, &right)| combine(left, right)).collect();
        return left.with_values(values);
    }
    let (left_times, right_times) = (left.times(), right.times());
    let most_rows = left.len() + right.len();
    let mut times = Vec::with_capacity(most_rows);
    let mut values = Vec::with_capacity(most_rows);
    let (mut i, mut j) = (0, 0);
    while i < left_times.len() && j < right_times.len() {
        let (left_time, right_time) = (left_times[i], right_times[j]);
        let (in_left, in_right) = (left_time <= right_time, right_time <= left_time);
        times.push(left_time.min(right_time));
        let left_value = if in_left { left.values()[i] } else { NULL };
        let right_value = if in_right { right.values()[j] } else { NULL };
        values.push(combine(left_value, right_value));
        i += usize::from(in_left);
        j += usize::from(in_right);
    }
    times.extend_from_slice(&left_times[i..]);
    values.extend(left.values()[i..].iter().map(|&value| combine(value, NULL)));
    times.extend_from_slice(&right_times[j..]);
    values.extend(right.values()[j..].iter().map(|&value| combine(NULL, value)));
    values.shrink_to_fit();
    Union { times: Cow::Owned(times) }.into_series(values, &[left, right])
}

/// The times that any of a number of series has.
#[derive(Debug)]
pub(super) struct Union<'a> {
    times: Cow<'a, [TimeNs]>,
}

impl<'a> Union<'a> {
    /// The union of the times of `operands`.
    ///
    /// Times that lie on a grid, as those of days, hours or minutes do, are marked on it: each is looked at once, however
    /// many operands there are. Others are merged, neighbours in pairs, then the pairs, and so on: each time is moved once
    /// a round. Timelines that are the same are not moved at all.
    pub(super) fn of(operands: &[&'a Series]) -> Self {
        let mut distinct: Vec<&'a Series> = Vec::new();
        for &operand in operands {
            if !distinct.last().is_some_and(|last| last.has_same_times(operand)) {
                distinct.push(operand);
            }
        }
        if distinct.len() > 2
            && let Some(grid) = Grid::of(&distinct)
        {
            return Self { times: Cow::Owned(grid.marked(&distinct)) };
        }
        let mut timelines: Vec<Cow<'a, [TimeNs]>> =
            distinct.into_iter().map(|series| Cow::Borrowed(series.times())).collect();
        while timelines.len() > 1 {
            let mut merged = Vec::with_capacity(timelines.len().div_ceil(2));
            let mut remaining = timelines.into_iter();
            while let Some(first) = remaining.next() {
                merged.push(match remaining.next() {
                    Some(second) if second != first => Cow::Owned(merge(&first, &second)),
                    _ => first,
                });
            }
            timelines = merged;
        }
        Self { times: timelines.pop().unwrap_or_default() }
    }

    /// The number of times.
    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    /// Calls `visit` with the row, and the value, of each observation of `operand`, whose times the union has. A row
    /// is the element of `rows` that stands at the observation's time.
    ///
    /// Proportional to the length of the operand, not of the union: many sparse operands are as cheap as one dense one.
    pub(super) fn scatter<T>(&self, operand: &Series, rows: &mut [T], visit: impl Fn(&mut T, f64)) {
        if operand.len() == self.times.len() {
            for (row, &value) in rows.iter_mut().zip(operand.values()) {
                visit(row, value);
            }
            return;
        }
        let mut row_index = 0;
        for (&time, &value) in operand.times().iter().zip(operand.values()) {
            row_index = gallop(&self.times, row_index, time);
            if let Some(row) = rows.get_mut(row_index) {
                visit(row, value);
            }
        }
    }

    /// A series of these times. It shares the timeline of an operand that has all of them.
    pub(super) fn into_series(self, values: Vec<f64>, operands: &[&Series]) -> Result<Series, Error> {
        // The union holds all times of every operand, so one with as many times has the same.
        match operands.iter().find(|operand| operand.len() == self.times.len()) {
            Some(operand) => operand.with_values(values),
            None => {
                let mut times = self.times.into_owned();
                times.shrink_to_fit();
                Series::new(times, values)
            }
        }
    }
}

/// Equally spaced instants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Grid {
    first: TimeNs,
    step: u64,
    count: usize,
}

/// A grid is worth it where it has no more instants than this for each time on it: it takes a bit for each.
const MOST_INSTANTS_A_TIME: u64 = 8;

impl Grid {
    /// The coarsest grid that has all times of the series; nothing where it is too fine to be worth it.
    fn of(series: &[&Series]) -> Option<Self> {
        let first = series.iter().filter_map(|series| series.times().first()).min().copied()?;
        let last = series.iter().filter_map(|series| series.times().last()).max().copied()?;
        let time_count: usize = series.iter().map(|series| series.len()).sum();
        let most_instants = MOST_INSTANTS_A_TIME.saturating_mul(time_count as u64);
        let span = last.abs_diff(first);
        let mut step = span;
        for &time in series.iter().flat_map(|series| series.times()) {
            let offset = time.abs_diff(first);
            if step != 0 && offset % step != 0 {
                step = greatest_common_divisor(offset, step);
                if span / step >= most_instants {
                    return None;
                }
            }
        }
        let count = usize::try_from(span.checked_div(step).unwrap_or(0)).ok()?.checked_add(1)?;
        Some(Self { first, step, count })
    }

    /// The instants that are times of the series, which the grid has.
    fn marked(self, series: &[&Series]) -> Vec<TimeNs> {
        let mut marks = vec![0_u64; self.count.div_ceil(64)];
        for &time in series.iter().flat_map(|series| series.times()) {
            let instant = time.abs_diff(self.first).checked_div(self.step).unwrap_or(0);
            let word = usize::try_from(instant / 64).ok().and_then(|index| marks.get_mut(index));
            if let Some(word) = word {
                *word |= 1 << (instant % 64);
            }
        }
        let mut times = Vec::with_capacity(marks.iter().map(|word| word.count_ones() as usize).sum());
        for (index, &word) in marks.iter().enumerate() {
            let mut rest = word;
            while rest != 0 {
                let instant = index as u64 * 64 + u64::from(rest.trailing_zeros());
                times.push(self.first.saturating_add_unsigned(instant.saturating_mul(self.step)));
                rest &= rest - 1;
            }
        }
        times
    }
}

fn greatest_common_divisor(mut one: u64, mut other: u64) -> u64 {
    while other != 0 {
        (one, other) = (other, one % other);
    }
    one
}

/// The union of two ascending lists.
fn merge(left: &[TimeNs], right: &[TimeNs]) -> Vec<TimeNs> {
    let mut times = Vec::with_capacity(left.len() + right.len());
    let (mut i, mut j) = (0, 0);
    while i < left.len() && j < right.len() {
        let (left_time, right_time) = (left[i], right[j]);
        times.push(left_time.min(right_time));
        i += usize::from(left_time <= right_time);
        j += usize::from(right_time <= left_time);
    }
    times.extend_from_slice(&left[i..]);
    times.extend_from_slice(&right[j..]);
    times
}

/// The index of the first time from `start` on that is not before `target`.
///
/// Looks 1, 2, 4, … ahead, then halves: a constant time for the next row, the logarithm of the distance for a far one.
fn gallop(times: &[TimeNs], start: usize, target: TimeNs) -> usize {
    let mut reach = 1;
    while times.get(start.saturating_add(reach)).is_some_and(|&time| time < target) {
        reach *= 2;
    }
    let low = (start + reach / 2).min(times.len());
    let high = start.saturating_add(reach).saturating_add(1).min(times.len());
    low + times[low..high].partition_point(|&time| time < target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(observations: &[(TimeNs, f64)]) -> Series {
        let (times, values) = observations.iter().copied().unzip();
        Series::new(times, values).unwrap()
    }

    /// A series with these times and the times as values.
    fn at(times: &[TimeNs]) -> Series {
        Series::new(times.to_vec(), times.iter().map(|&time| time as f64).collect()).unwrap()
    }

    /// Shows which operand was null.
    fn show(left: f64, right: f64) -> f64 {
        match (left.is_nan(), right.is_nan()) {
            (true, true) => 0.0,
            (false, true) => 1.0,
            (true, false) => 2.0,
            (false, false) => 3.0,
        }
    }

    #[test]
    fn a_time_that_one_operand_lacks_is_null_there() {
        let joined = outer_join(&at(&[1, 3, 5, 6]), &at(&[-1, 3, 4, 6, 9, 10]), show).unwrap();
        let expected = [(-1, 2.0), (1, 1.0), (3, 3.0), (4, 2.0), (5, 1.0), (6, 3.0), (9, 2.0), (10, 2.0)];
        assert_eq!(joined, series(&expected));
    }

    #[test]
    fn a_null_observation_and_a_missing_one_are_the_same() {
        let joined = outer_join(&series(&[(1, NULL), (2, 1.0)]), &series(&[(1, 1.0), (3, NULL)]), show).unwrap();
        assert_eq!(joined, series(&[(1, 2.0), (2, 1.0), (3, 0.0)]));
    }

    #[test]
    fn joining_with_nothing_keeps_the_rows() {
        assert_eq!(outer_join(&at(&[1, 2]), &Series::empty(), show).unwrap(), series(&[(1, 1.0), (2, 1.0)]));
        assert_eq!(outer_join(&Series::empty(), &at(&[1]), show).unwrap(), series(&[(1, 2.0)]));
        assert!(outer_join(&Series::empty(), &Series::empty(), show).unwrap().is_empty());
    }

    #[test]
    fn the_first_and_the_last_instant_join_like_any_other() {
        let joined = outer_join(&at(&[i64::MIN, 0]), &at(&[i64::MIN, i64::MAX]), show).unwrap();
        assert_eq!(joined, series(&[(i64::MIN, 3.0), (0, 1.0), (i64::MAX, 2.0)]));
    }

    #[test]
    fn a_result_with_the_times_of_an_operand_shares_its_timeline() {
        let (all, some) = (at(&[1, 2, 3]), at(&[2]));
        for joined in [outer_join(&all, &some, show).unwrap(), outer_join(&some, &all, show).unwrap()] {
            assert!(std::ptr::eq(joined.times(), all.times()));
        }
        let same = at(&[1, 2, 3]);
        assert!(std::ptr::eq(outer_join(&all, &same, show).unwrap().times(), all.times()));
        let union = Union::of(&[&some, &all, &some]);
        let result = union.into_series(vec![0.0; 3], &[&some, &all, &some]).unwrap();
        assert!(std::ptr::eq(result.times(), all.times()));
    }

    #[test]
    fn a_union_holds_each_time_once() {
        let operands = [at(&[5]), at(&[]), at(&[1, 5, 9]), at(&[2, 5]), at(&[i64::MIN]), at(&[5]), at(&[9, i64::MAX])];
        let union = Union::of(&operands.iter().collect::<Vec<_>>());
        assert_eq!(union.times.as_ref(), [i64::MIN, 1, 2, 5, 9, i64::MAX]);
        assert_eq!(Union::of(&[]).len(), 0);
    }

    /// The union by merging alone.
    fn merged(operands: &[Series]) -> Vec<TimeNs> {
        operands.iter().fold(Vec::new(), |times, operand| merge(&times, operand.times()))
    }

    #[test]
    fn a_union_on_a_grid_is_the_merged_one() {
        let days = |start: i64, step: i64, count: i64| {
            at(&(0..count).map(|index| start + index * step * 86_400).collect::<Vec<_>>())
        };
        let extremes = at(&[i64::MIN, i64::MAX]);
        for operands in [
            vec![days(0, 1, 50), days(3 * 86_400, 7, 20), days(-86_400, 2, 9), days(0, 5, 1)],
            vec![at(&[7]), at(&[]), at(&[7]), at(&[7])],
            vec![at(&[]), at(&[1]), at(&[]), at(&[2])],
            vec![at(&[0, 64, 128]), at(&[63, 127]), at(&[1, 191]), days(0, 1, 1)],
            vec![extremes.clone(), at(&[0]), extremes, at(&[-1])],
            vec![at(&[i64::MIN]), at(&[i64::MAX]), at(&[i64::MIN])],
        ] {
            let union = Union::of(&operands.iter().collect::<Vec<_>>());
            assert_eq!(union.times.as_ref(), merged(&operands), "{operands:?}");
        }
    }

    #[test]
    fn a_grid_is_taken_where_it_is_not_much_finer_than_its_times() {
        let days = at(&(0..100).map(|day| day * 86_400).collect::<Vec<_>>());
        let weeks = at(&(0..9).map(|week| week * 604_800).collect::<Vec<_>>());
        assert_eq!(Grid::of(&[&weeks, &days]), Some(Grid { first: 0, step: 86_400, count: 100 }));
        assert_eq!(Grid::of(&[&days, &at(&[86_401])]), None);
        assert_eq!(Grid::of(&[&at(&[5]), &at(&[5])]), Some(Grid { first: 5, step: 0, count: 1 }));
        assert_eq!(Grid::of(&[&at(&[])]), None);
    }

    #[test]
    fn equal_timelines_are_not_copied() {
        let (one, same) = (at(&[1, 2, 3]), at(&[1, 2, 3]));
        let shared = one.clone();
        let union = Union::of(&[&one, &shared, &same]);
        assert!(matches!(union.times, Cow::Borrowed(_)));
    }

    #[test]
    fn scattering_puts_each_observation_at_its_time() {
        let operands: Vec<Series> = (1..40).map(|step| at(&(0..500).step_by(step).collect::<Vec<_>>())).collect();
        let union = Union::of(&operands.iter().skip(1).collect::<Vec<_>>());
        for operand in &operands[1..] {
            let mut rows = vec![NULL; union.len()];
            union.scatter(operand, &mut rows, |row, value| *row = value);
            for (&time, &row) in union.times.iter().zip(&rows) {
                let is_present = operand.times().contains(&time);
                assert_eq!(is_present, row == time as f64, "{time} of {:?}", operand.times());
            }
        }
    }

    #[test]
    fn galloping_finds_what_a_binary_search_finds() {
        let times: Vec<TimeNs> = (0..100).map(|index| index * 3).collect();
        for start in 0..100 {
            for target in (times[start] - 1)..310 {
                let expected = start + times[start..].partition_point(|&time| time < target);
                assert_eq!(gallop(&times, start, target), expected);
            }
        }
        assert_eq!(gallop(&[], 0, 5), 0);
    }
}
