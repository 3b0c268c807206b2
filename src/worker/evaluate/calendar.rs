//! Calendar days: a time zone and a series in, slice by slice; for each observation, the value that stood N calendar days
//! before it out.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Error;
use crate::expression::WindowLength;
use crate::series::{NULL, Series, TimeNs};

const NANOSECONDS_PER_SECOND: i128 = 1_000_000_000;
const NANOSECONDS_PER_DAY: i64 = 86_400 * 1_000_000_000;

/// The calendar that days are counted in: that of a time zone, by the IANA database that is part of the program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    zone: TimeZone,
    periods: Vec<Period>,
}

/// A time during which local time keeps one distance from UTC.
///
/// Wide integers: near the ends of the representable range, local times are outside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Period {
    /// Local time minus UTC.
    offset_ns: i128,
    /// When the period ends, in UTC.
    end_ns: i128,
    /// The end of the local times that are this period's. Where clocks go back, local times that come twice belong to
    /// the earlier period; where they go forward, local times that do not exist do: both are what RFC 5545 asks for
    /// (3.3.5, "compatible" disambiguation).
    local_end_ns: i128,
}

impl Calendar {
    /// Days of 24 hours from midnight to midnight UTC.
    #[must_use]
    pub fn utc() -> Self {
        Self::of(TimeZone::UTC)
    }

    /// The calendar of a zone by its IANA name, such as `America/Argentina/Buenos_Aires`.
    ///
    /// # Errors
    /// When the database has no such zone.
    pub fn parse(name: &str) -> Result<Self, Error> {
        let zone = TimeZone::get(name).map_err(|source| Error::UnknownTimeZone { name: name.to_owned(), source })?;
        Ok(Self::of(zone))
    }

    /// The name of its zone.
    #[must_use]
    pub fn name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    fn of(zone: TimeZone) -> Self {
        let offset_ns = |seconds: i32| i128::from(seconds) * NANOSECONDS_PER_SECOND;
        let start = Timestamp::from_nanosecond(i128::from(TimeNs::MIN)).unwrap_or(Timestamp::MIN);
        let mut current_offset_ns = offset_ns(zone.to_offset(start).seconds());
        let mut periods = Vec::new();
        for transition in zone.following(start) {
            let end_ns = transition.timestamp().as_nanosecond();
            if end_ns > i128::from(TimeNs::MAX) {
                break;
            }
            let next_offset_ns = offset_ns(transition.offset().seconds());
            let local_end_ns = end_ns + current_offset_ns.max(next_offset_ns);
            periods.push(Period { offset_ns: current_offset_ns, end_ns, local_end_ns });
            current_offset_ns = next_offset_ns;
        }
        periods.push(Period { offset_ns: current_offset_ns, end_ns: i128::MAX, local_end_ns: i128::MAX });
        Self { zone, periods }
    }

    /// How far apart the distances of local time from UTC are.
    fn offset_spread_ns(&self) -> i128 {
        let offsets = || self.periods.iter().map(|period| period.offset_ns);
        offsets().max().unwrap_or(0) - offsets().min().unwrap_or(0)
    }
}

/// For each observation at time t, the value of the latest observation at or before t minus so many calendar days; null
/// where there is none. Linear in the length of the series.
///
/// Holds the observations that a later one may still look back to: those of so many days, and the last before them.
#[derive(Debug)]
pub(super) struct Lag {
    calendar: Calendar,
    days_ns: i128,
    /// No later target lies further back than this.
    reach_ns: i128,
    times: Vec<TimeNs>,
    values: Vec<f64>,
    utc_index: usize,
    local_index: usize,
}

impl Lag {
    /// Nothing seen yet.
    pub(super) fn new(calendar: &Calendar, days: WindowLength) -> Self {
        let days_ns = i128::from(days.get()) * i128::from(NANOSECONDS_PER_DAY);
        Self {
            calendar: calendar.clone(),
            days_ns,
            // Targets ascend with the times but for what the distance from UTC changes by between them.
            reach_ns: days_ns + calendar.offset_spread_ns(),
            times: Vec::new(),
            values: Vec::new(),
            utc_index: 0,
            local_index: 0,
        }
    }

    /// The values that stood so many days before the next observations of the series.
    pub(super) fn next(&mut self, series: &Series) -> Vec<f64> {
        let values = match self.calendar.periods.as_slice() {
            // Clocks that never change: calendar days are spans of 24 hours.
            [_] => {
                // A span longer than the range of times leads before it from anywhere.
                let days_ns = TimeNs::try_from(self.days_ns).ok();
                self.values_at(series, |time| days_ns.and_then(|days_ns| time.checked_sub(days_ns)))
            }
            periods => {
                let mut clock = Clock { periods, utc_index: self.utc_index, local_index: self.local_index };
                let values = self.values_at(series, |time| {
                    let local_ns = clock.local(i128::from(time));
                    TimeNs::try_from(clock.utc(local_ns - self.days_ns)).ok()
                });
                (self.utc_index, self.local_index) = (clock.utc_index, clock.local_index);
                values
            }
        };
        self.keep(series);
        values
    }

    /// For each observation, the value of the latest one at or before `target` of its time.
    ///
    /// Targets nearly always ascend, so the search goes on from where the last one ended, in either direction.
    fn values_at(&self, series: &Series, mut target: impl FnMut(TimeNs) -> Option<TimeNs>) -> Vec<f64> {
        let (kept_count, times) = (self.times.len(), series.times());
        let time_at = |index: usize| if index < kept_count { self.times[index] } else { times[index - kept_count] };
        let value_at =
            |index: usize| if index < kept_count { self.values[index] } else { series.values()[index - kept_count] };
        let all_count = kept_count + times.len();
        // The number of observations at or before the target.
        let mut count = 0;
        let value_at_target = |&time: &TimeNs| {
            let target = target(time)?;
            while count > 0 && time_at(count - 1) > target {
                count -= 1;
            }
            while count < all_count && time_at(count) <= target {
                count += 1;
            }
            (count > 0).then(|| value_at(count - 1))
        };
        times.iter().map(value_at_target).map(|value| value.unwrap_or(NULL)).collect()
    }

    /// Keeps what a later target may lead to: all from the earliest possible one on, and the observation before it.
    fn keep(&mut self, series: &Series) {
        let Some(&last) = series.times().last() else { return };
        let earliest_target = i128::from(last) - self.reach_ns;
        let is_before = |&time: &TimeNs| i128::from(time) <= earliest_target;
        let passed_count = self.times.partition_point(is_before);
        if passed_count < self.times.len() {
            let start = passed_count.saturating_sub(1);
            self.times.drain(..start);
            self.values.drain(..start);
            self.times.extend_from_slice(series.times());
            self.values.extend_from_slice(series.values());
            return;
        }
        let new_passed_count = series.times().partition_point(is_before);
        if new_passed_count > 0 {
            self.times.clear();
            self.values.clear();
        } else {
            // The last of those kept is still the latest before the earliest target.
            let start = self.times.len().saturating_sub(1);
            self.times.drain(..start);
            self.values.drain(..start);
        }
        let start = new_passed_count.saturating_sub(1);
        self.times.extend_from_slice(&series.times()[start..]);
        self.values.extend_from_slice(&series.values()[start..]);
    }
}

/// Converts between UTC and local time, fast for times near the last ones: one look at the period in use, no search.
struct Clock<'a> {
    periods: &'a [Period],
    utc_index: usize,
    local_index: usize,
}

impl Clock<'_> {
    fn local(&mut self, utc_ns: i128) -> i128 {
        self.utc_index = find(self.periods, self.utc_index, utc_ns, |period| period.end_ns);
        utc_ns + self.periods[self.utc_index].offset_ns
    }

    fn utc(&mut self, local_ns: i128) -> i128 {
        self.local_index = find(self.periods, self.local_index, local_ns, |period| period.local_end_ns);
        local_ns - self.periods[self.local_index].offset_ns
    }
}

/// The index of the first period that ends after `time_ns`; `hint` is where it probably is.
fn find(periods: &[Period], hint: usize, time_ns: i128, end: impl Fn(&Period) -> i128) -> usize {
    let is_after_the_one_before = hint == 0 || end(&periods[hint - 1]) <= time_ns;
    if is_after_the_one_before && time_ns < end(&periods[hint]) {
        return hint;
    }
    periods.partition_point(|period| end(period) <= time_ns)
}

#[cfg(test)]
mod tests {
    use jiff::civil::DateTime;

    use super::*;

    /// Nanoseconds of an RFC 3339 instant.
    fn ns(instant: &str) -> TimeNs {
        i64::try_from(instant.parse::<Timestamp>().unwrap().as_nanosecond()).unwrap()
    }

    /// A series of these instants, whose values are 0, 1, 2 and so on.
    fn numbered(instants: &[&str]) -> Series {
        let times: Vec<TimeNs> = instants.iter().map(|instant| ns(instant)).collect();
        let values = (0..times.len()).map(|index| index as f64).collect();
        Series::new(times, values).unwrap()
    }

    /// The values, which are the same however the series is cut.
    fn lag(calendar: &Calendar, series: &Series, days: u32) -> Vec<f64> {
        let new = || Lag::new(calendar, WindowLength::new(days).unwrap());
        let values = new().next(series);
        let mut in_singles = new();
        let one = |(&time, &value): (&TimeNs, &f64)| Series::new(vec![time], vec![value]).unwrap();
        let singles = series.times().iter().zip(series.values()).flat_map(|row| in_singles.next(&one(row)));
        assert!(singles.map(f64::to_bits).eq(values.iter().map(|value| value.to_bits())));
        values
    }

    #[test]
    fn lag_keeps_no_more_than_its_days_and_the_observation_before() {
        for (zone, most) in [("UTC", 8), ("America/New_York", 9)] {
            let mut lag = Lag::new(&Calendar::parse(zone).unwrap(), WindowLength::new(7).unwrap());
            for day in 0..400 {
                lag.next(&Series::new(vec![day * NANOSECONDS_PER_DAY], vec![0.0]).unwrap());
                assert!(lag.times.len() <= most, "{} observations are kept in {zone}", lag.times.len());
            }
        }
    }

    fn check(zone: &str, days: u32, instants: &[&str], expected: &[f64]) {
        let values = lag(&Calendar::parse(zone).unwrap(), &numbered(instants), days);
        let same = |(a, b): (&f64, &f64)| a == b || (a.is_nan() && b.is_nan());
        let all_same = values.len() == expected.len() && values.iter().zip(expected).all(same);
        assert!(all_same, "{days} days in {zone} at {instants:?}: {values:?}, not {expected:?}");
    }

    #[test]
    fn lag_takes_the_latest_value_at_or_before_the_target() {
        let days = ["2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z", "2024-01-05T00:00:00Z", "2024-01-06T12:00:00Z"];
        check("UTC", 1, &days, &[NULL, 0.0, 1.0, 2.0]);
        check("UTC", 2, &days, &[NULL, NULL, 1.0, 1.0]);
        check("UTC", 400, &days, &[NULL; 4]);
        check("UTC", 1, &[], &[]);
        let (just_before, just_at) = ("2024-01-01T23:59:59.999999999Z", "2024-01-02T00:00:00Z");
        check("UTC", 1, &["2024-01-01T00:00:00Z", just_before, just_at], &[NULL, NULL, 0.0]);
    }

    #[test]
    fn lag_counts_days_before_1970_too() {
        check("UTC", 1, &["1969-12-31T23:00:00Z", "1970-01-01T23:00:00Z"], &[NULL, 0.0]);
        check("UTC", 3, &["1950-03-01T00:00:00Z", "1950-03-03T23:59:59Z", "1950-03-04T00:00:00Z"], &[NULL, NULL, 0.0]);
        check("America/New_York", 1, &["1950-06-01T04:00:00Z", "1950-06-02T04:00:00Z"], &[NULL, 0.0]);
    }

    #[test]
    fn lag_passes_nulls_and_infinities_on() {
        let times = (0..4).map(|day| day * NANOSECONDS_PER_DAY).collect();
        let series = Series::new(times, vec![f64::INFINITY, NULL, f64::NEG_INFINITY, 1.0]).unwrap();
        for calendar in [Calendar::utc(), Calendar::parse("Europe/Madrid").unwrap()] {
            let lagged = series.with_values(lag(&calendar, &series, 1)).unwrap();
            let expected = series.with_values(vec![NULL, f64::INFINITY, NULL, f64::NEG_INFINITY]).unwrap();
            assert_eq!(lagged, expected);
        }
    }

    #[test]
    fn beyond_the_representable_range_lag_is_null() {
        let ends = Series::new(vec![i64::MIN, i64::MIN + NANOSECONDS_PER_DAY, i64::MAX], vec![1.0, 2.0, 3.0]).unwrap();
        for zone in ["UTC", "Asia/Kathmandu", "America/New_York", "Pacific/Kiritimati"] {
            let lag =
                |days: u32| ends.with_values(super::tests::lag(&Calendar::parse(zone).unwrap(), &ends, days)).unwrap();
            assert_eq!(lag(1), ends.with_values(vec![NULL, 1.0, 2.0]).unwrap(), "{zone}");
            assert_eq!(lag(1_000_000), ends.with_values(vec![NULL; 3]).unwrap(), "{zone}");
            assert_eq!(lag(u32::MAX), ends.with_values(vec![NULL; 3]).unwrap(), "{zone}");
        }
    }

    #[test]
    fn local_midnights_stay_midnights_when_clocks_go_forward() {
        // 2024-03-10, New York: a day of 23 hours. 2024-03-31, Madrid: another.
        let new_york = ["2024-03-10T05:00:00Z", "2024-03-11T04:00:00Z", "2024-03-12T04:00:00Z"];
        check("America/New_York", 1, &new_york, &[NULL, 0.0, 1.0]);
        check("America/New_York", 2, &new_york, &[NULL, NULL, 0.0]);
        check("UTC", 1, &new_york, &[NULL, NULL, 1.0]);
        check("Europe/Madrid", 1, &["2024-03-30T23:00:00Z", "2024-03-31T22:00:00Z"], &[NULL, 0.0]);
    }

    #[test]
    fn local_midnights_stay_midnights_when_clocks_go_back() {
        let new_york = ["2024-11-03T04:00:00Z", "2024-11-04T04:00:00Z", "2024-11-04T05:00:00Z"];
        // 23:00 local on the 3rd has nothing at or before 23:00 on the 2nd; midnight has midnight.
        check("America/New_York", 1, &new_york, &[NULL, NULL, 0.0]);
        check("UTC", 1, &new_york, &[NULL, 0.0, 0.0]);
        check("Europe/Madrid", 1, &["2024-10-26T22:00:00Z", "2024-10-27T23:00:00Z"], &[NULL, 0.0]);
    }

    #[test]
    fn a_local_time_that_does_not_exist_is_read_as_before_the_change() {
        // 02:30 on 2024-03-10 is skipped in New York; at the offset before the change it is 07:30Z, 03:30 on the clock.
        let instants = ["2024-03-10T07:29:00Z", "2024-03-10T07:30:00Z", "2024-03-11T06:30:00Z"];
        check("America/New_York", 1, &instants, &[NULL, NULL, 1.0]);
    }

    #[test]
    fn a_local_time_that_comes_twice_is_the_first() {
        // 01:30 on 2024-11-03 is 05:30Z and 06:30Z in New York.
        let instants = ["2024-11-03T05:30:00Z", "2024-11-03T06:30:00Z", "2024-11-04T06:30:00Z"];
        check("America/New_York", 1, &instants, &[NULL, NULL, 0.0]);
    }

    #[test]
    fn targets_that_go_back_are_found() {
        // On the 3rd, 01:00 to 02:00 comes twice: the second time the targets on the 2nd start again at 01:00.
        let instants = [
            "2024-11-02T05:00:00Z",
            "2024-11-02T05:30:00Z",
            "2024-11-03T05:00:00Z",
            "2024-11-03T05:30:00Z",
            "2024-11-03T06:00:00Z",
            "2024-11-03T06:30:00Z",
            "2024-11-03T07:00:00Z",
        ];
        check("America/New_York", 1, &instants, &[NULL, NULL, 0.0, 1.0, 0.0, 1.0, 1.0]);
    }

    #[test]
    fn a_day_that_a_zone_left_out_is_counted() {
        // Apia went from 2011-12-29 to 2011-12-31: midnight of the 30th is read as that of the 31st.
        let midnights = ["2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z", "2011-12-31T10:00:00Z"];
        check("Pacific/Apia", 1, &midnights, &[NULL, 1.0, 1.0]);
        check("Pacific/Apia", 2, &midnights, &[NULL, 0.0, 1.0]);
    }

    #[test]
    fn an_unknown_zone_is_named() {
        let error = Calendar::parse("Mars/Olympus").unwrap_err();
        assert_eq!(error.to_string(), "no time zone \"Mars/Olympus\" in the time zone database");
        assert_eq!(Calendar::parse("Europe/Madrid").unwrap().name(), "Europe/Madrid");
        assert_eq!(Calendar::utc().name(), "UTC");
    }

    /// What the library says, by its own civil dates and disambiguation.
    fn days_before(zone: &TimeZone, time: i128, days: i64) -> i128 {
        let civil: DateTime = zone.to_datetime(Timestamp::from_nanosecond(time).unwrap());
        let earlier = civil.checked_sub(jiff::Span::new().days(days)).unwrap();
        zone.to_ambiguous_timestamp(earlier).compatible().unwrap().as_nanosecond()
    }

    #[test]
    fn the_periods_agree_with_the_time_zone_library_around_every_change() {
        const MINUTE: i128 = 60 * NANOSECONDS_PER_SECOND;
        let zones = [
            "America/New_York",
            "America/Argentina/Buenos_Aires",
            "Europe/Madrid",
            "Europe/Dublin",
            "Africa/Casablanca",
            "Asia/Manila",
            "Asia/Kathmandu",
            "Australia/Lord_Howe",
            "America/Metlakatla",
            "America/Caracas",
            "Pacific/Apia",
            "Pacific/Kwajalein",
        ];
        for name in zones {
            let calendar = Calendar::parse(name).unwrap();
            let mut clock = Clock { periods: &calendar.periods, utc_index: 0, local_index: 0 };
            for period in calendar.periods.iter().filter(|period| period.end_ns != i128::MAX) {
                for days in [0, 1, 7, 31] {
                    let days_ns = i128::from(days) * i128::from(NANOSECONDS_PER_DAY);
                    for minutes in [-1500, -1440, -90, -60, -31, -1, 0, 1, 29, 30, 59, 60, 61, 90, 1440, 1500] {
                        for shift_ns in [-1, 0, 1] {
                            let time = period.end_ns + days_ns + minutes * MINUTE + shift_ns;
                            let local = clock.local(time);
                            let answer = clock.utc(local - days_ns);
                            let expected = days_before(&calendar.zone, time, days);
                            assert_eq!(answer, expected, "{name}: {days} days before {time}");
                        }
                    }
                }
            }
        }
    }
}
