//! A series: observations in, ascending unique times with values out. Everything that is read, computed or written is one.

use std::sync::Arc;

/// Nanoseconds since 1970-01-01T00:00:00Z.
pub type TimeNs = i64;

/// The null value. A series holds no other NaN, so "is null" and "is NaN" are the same question.
pub const NULL: f64 = f64::NAN;

/// Observations of one series.
///
/// Invariants: `times` and `values` have the same length; times ascend strictly; a value is null (any NaN), finite,
/// or infinite. A NaN that arithmetic produces (`0/0`, `inf - inf`) is therefore null.
///
/// Times are shared: an operator that keeps its operand's timeline does not copy it.
#[derive(Debug, Clone)]
pub struct Series {
    times: Arc<Vec<TimeNs>>,
    values: Vec<f64>,
}

/// Times and values do not form a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// One value for each time is required.
    #[error("{times} times but {values} values")]
    Length {
        /// Number of times.
        times: usize,
        /// Number of values.
        values: usize,
    },
    /// Times must ascend strictly.
    #[error("time at index {index} does not ascend")]
    Order {
        /// The first index whose time is not greater than the one before.
        index: usize,
    },
}

impl Series {
    /// A series without observations.
    #[must_use]
    pub fn empty() -> Self {
        Self { times: Arc::new(Vec::new()), values: Vec::new() }
    }

    /// A series of the given observations.
    ///
    /// # Errors
    /// When the lengths differ or the times do not ascend strictly.
    pub fn new(times: Vec<TimeNs>, values: Vec<f64>) -> Result<Self, Error> {
        if times.len() != values.len() {
            return Err(Error::Length { times: times.len(), values: values.len() });
        }
        if let Some(index) = times.windows(2).position(|pair| pair[0] >= pair[1]) {
            return Err(Error::Order { index: index + 1 });
        }
        Ok(Self { times: Arc::new(times), values })
    }

    /// The same timeline with other values.
    ///
    /// # Errors
    /// When there is not one value for each time.
    pub fn with_values(&self, values: Vec<f64>) -> Result<Self, Error> {
        if self.times.len() != values.len() {
            return Err(Error::Length { times: self.times.len(), values: values.len() });
        }
        Ok(Self { times: Arc::clone(&self.times), values })
    }

    /// The times, ascending, in nanoseconds since the epoch.
    #[must_use]
    pub fn times(&self) -> &[TimeNs] {
        &self.times
    }

    /// The values, one for each time; NaN is null.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The number of observations, nulls included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are no observations.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Whether both have the same times. Constant time where they share one timeline.
    #[must_use]
    pub fn has_same_times(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.times, &other.times) || self.times == other.times
    }

    /// The observations in order; a null value is `None`.
    pub fn iter(&self) -> impl Iterator<Item = (TimeNs, Option<f64>)> + '_ {
        self.times.iter().zip(&self.values).map(|(&time, &value)| (time, (!value.is_nan()).then_some(value)))
    }
}

/// Two series are equal when their times are and their values are, null to null.
impl PartialEq for Series {
    fn eq(&self, other: &Self) -> bool {
        let same = |(a, b): (&f64, &f64)| a == b || (a.is_nan() && b.is_nan());
        self.has_same_times(other) && self.values.iter().zip(&other.values).all(same)
    }
}

/// Collects observations in the order they are read, and settles duplicates: the observation read last wins.
#[derive(Debug)]
pub struct SeriesBuilder {
    times: Vec<TimeNs>,
    values: Vec<f64>,
    ascending: bool,
    descents: usize,
}

impl Default for SeriesBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl SeriesBuilder {
    /// Nothing read yet.
    #[must_use]
    pub fn new() -> Self {
        Self { times: Vec::new(), values: Vec::new(), ascending: true, descents: 0 }
    }

    /// Makes room for so many more observations.
    pub fn reserve(&mut self, count: usize) {
        self.times.reserve(count);
        self.values.reserve(count);
    }

    /// Adds one observation; a NaN value is null.
    pub fn push(&mut self, time: TimeNs, value: f64) {
        let last = self.times.last();
        self.ascending &= last.is_none_or(|&last| last < time);
        self.descents += usize::from(last.is_some_and(|&last| last > time));
        self.times.push(time);
        self.values.push(value);
    }

    /// Adds observations in this order, as if they had been pushed one by one; there is a value for each time.
    pub fn extend(&mut self, times: &[TimeNs], values: &[f64]) {
        debug_assert_eq!(times.len(), values.len(), "a value for each time");
        let Some(&first) = times.first() else { return };
        let last = self.times.last();
        self.ascending &= last.is_none_or(|&last| last < first);
        self.descents += usize::from(last.is_some_and(|&last| last > first));
        // Both are counted without a branch: nearly always all pairs ascend.
        let pairs = || times.iter().zip(&times[1..]);
        let ascents: usize = pairs().map(|(before, after)| usize::from(before < after)).sum();
        if ascents + 1 < times.len() {
            self.ascending = false;
            self.descents += pairs().filter(|(before, after)| before > after).count();
        }
        self.times.extend_from_slice(times);
        self.values.extend_from_slice(values);
    }

    /// Adds the observations of another builder after its own, as if they had been pushed one by one.
    pub fn append(&mut self, mut other: Self) {
        let joins_ascending = match (self.times.last(), other.times.first()) {
            (Some(last), Some(first)) => last < first,
            _ => true,
        };
        self.ascending &= other.ascending && joins_ascending;
        let joins_descending =
            matches!((self.times.last(), other.times.first()), (Some(last), Some(first)) if last > first);
        self.descents += other.descents + usize::from(joins_descending);
        self.times.append(&mut other.times);
        self.values.append(&mut other.values);
    }

    /// The number of observations so far, duplicates included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether nothing was added yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// The first and the last time so far.
    #[must_use]
    pub fn span(&self) -> Option<(TimeNs, TimeNs)> {
        if self.ascending {
            return self.times.first().copied().zip(self.times.last().copied());
        }
        self.times.iter().copied().min().zip(self.times.iter().copied().max())
    }

    /// The number of observations that are earlier than the one read before them.
    #[must_use]
    pub fn descents(&self) -> usize {
        self.descents
    }

    /// The series, and how many observations a later one with the same time replaced.
    #[must_use]
    pub fn finish(mut self) -> (Series, usize) {
        let dropped_count = self.settle();
        (Series { times: Arc::new(self.times), values: self.values }, dropped_count)
    }

    /// The series of the observations before `end`, which are taken out, and how many a later one with the same time
    /// replaced, those from `end` on included.
    pub fn take_before(&mut self, end: TimeNs) -> (Series, usize) {
        let dropped_count = self.settle();
        let count = self.times.partition_point(|&time| time < end);
        let (later_times, later_values) = (self.times.split_off(count), self.values.split_off(count));
        let times = std::mem::replace(&mut self.times, later_times);
        let values = std::mem::replace(&mut self.values, later_values);
        (Series { times: Arc::new(times), values }, dropped_count)
    }

    /// Puts the observations into order and settles duplicates; how many a later one with the same time replaced.
    fn settle(&mut self) -> usize {
        if self.ascending {
            return 0;
        }
        let read_count = self.times.len();
        let (read_times, read_values) = (std::mem::take(&mut self.times), std::mem::take(&mut self.values));
        let mut observations: Vec<(TimeNs, f64)> = read_times.into_iter().zip(read_values).collect();
        // Stable: among equal times the reading order stays, so the last of them is the one read last.
        observations.sort_by_key(|&(time, _)| time);
        self.times.reserve(read_count);
        self.values.reserve(read_count);
        for (time, value) in observations {
            if self.times.last() == Some(&time) {
                self.values.pop();
                self.times.pop();
            }
            self.times.push(time);
            self.values.push(value);
        }
        self.ascending = true;
        read_count - self.times.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(observations: &[(TimeNs, f64)]) -> (Series, usize) {
        let mut builder = SeriesBuilder::new();
        for &(time, value) in observations {
            builder.push(time, value);
        }
        builder.finish()
    }

    #[test]
    fn the_observation_read_last_wins() {
        let (series, dropped_count) = built(&[(3, 1.0), (1, 2.0), (3, NULL), (2, 4.0), (1, 5.0)]);
        assert_eq!(series, Series::new(vec![1, 2, 3], vec![5.0, 4.0, NULL]).unwrap());
        assert_eq!(dropped_count, 2);
    }

    #[test]
    fn appending_is_pushing() {
        let mut first = SeriesBuilder::new();
        first.push(1, 1.0);
        first.push(2, 2.0);
        let mut second = SeriesBuilder::new();
        second.push(2, 3.0);
        second.push(3, 4.0);
        first.append(second);
        assert_eq!(first.descents(), 0, "equal times do not descend");
        assert_eq!(first.finish(), built(&[(1, 1.0), (2, 2.0), (2, 3.0), (3, 4.0)]));
    }

    #[test]
    fn what_is_before_a_time_is_taken_out_in_order_and_the_rest_stays() {
        let mut builder = SeriesBuilder::new();
        for (time, value) in [(5, 1.0), (3, 2.0), (1, 3.0), (3, 4.0), (5, 5.0)] {
            builder.push(time, value);
        }
        assert_eq!(builder.span(), Some((1, 5)));
        let (before, dropped_count) = builder.take_before(5);
        assert_eq!((before, dropped_count), (Series::new(vec![1, 3], vec![3.0, 4.0]).unwrap(), 2));
        builder.push(9, 6.0);
        assert_eq!(builder.take_before(1), (Series::empty(), 0));
        assert_eq!(builder.span(), Some((5, 9)));
        assert_eq!(builder.finish(), (Series::new(vec![5, 9], vec![5.0, 6.0]).unwrap(), 0));
    }

    #[test]
    fn extending_is_pushing() {
        for cut in 0..=8 {
            let times = [3, 4, 4, 2, 5, 5, 1, 9];
            let values = times.map(|time: i64| time as f64);
            let (mut extended, mut pushed) = (SeriesBuilder::new(), SeriesBuilder::new());
            extended.extend(&times[..cut], &values[..cut]);
            extended.extend(&times[cut..], &values[cut..]);
            times.iter().zip(values).for_each(|(&time, value)| pushed.push(time, value));
            assert_eq!((extended.descents(), extended.span()), (pushed.descents(), pushed.span()));
            assert_eq!(extended.finish(), pushed.finish());
        }
    }

    #[test]
    fn descents_are_counted_within_and_between_builders() {
        let mut first = SeriesBuilder::new();
        [3, 1, 2].into_iter().for_each(|time| first.push(time, 0.0));
        let mut second = SeriesBuilder::new();
        [1, 5, 4].into_iter().for_each(|time| second.push(time, 0.0));
        first.append(second);
        assert_eq!(first.descents(), 3);
    }

    #[test]
    fn times_that_do_not_ascend_are_rejected() {
        assert_eq!(Series::new(vec![1, 1], vec![0.0, 0.0]).unwrap_err(), Error::Order { index: 1 });
        assert_eq!(Series::new(vec![1], vec![]).unwrap_err(), Error::Length { times: 1, values: 0 });
    }

    #[test]
    fn null_is_kept_and_equal_to_null() {
        let series = Series::new(vec![1, 2], vec![NULL, 1.0]).unwrap();
        assert_eq!(series.iter().collect::<Vec<_>>(), [(1, None), (2, Some(1.0))]);
        assert_eq!(series, series.clone());
    }
}
