//! The guards of the commit protocol: each can be taken away, to see which promise then breaks.

/// One rule of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub(crate) enum Guard {
    /// The marker is read before anything else.
    MarkerFirst,
    /// A marker of another request digest is a conflict.
    MarkerDigest,
    /// The claim is put only where there is none.
    ClaimIfAbsent,
    /// A claim of another request digest is a conflict.
    ClaimDigest,
    /// A version is claimed above `current`, whatever the clock says.
    VersionAboveCurrent,
    /// Data is put only where there is none.
    DataIfAbsent,
    /// Data that is there already is compared, and other bytes are left alone.
    DataCompared,
    /// Data is complete before the claim is sealed.
    DataBeforeSeal,
    /// The claim is sealed before the manifest is put.
    Seal,
    /// The claim is sealed only if it is as this attempt knows it.
    SealIfMatch,
    /// A sealed claim is finished, never computed again.
    SealedIsFinished,
    /// The claim moves to a fresh version only if it is as this attempt knows it.
    MoveIfMatch,
    /// The manifest is put only where there is none.
    ManifestIfAbsent,
    /// A manifest that is there already is compared, and another run's is left alone.
    ManifestCompared,
    /// The manifest is there before `current` names it.
    ManifestBeforeCurrent,
    /// `current` is never replaced by an older version.
    CurrentForwardOnly,
    /// `current` is replaced only if it is as this attempt saw it.
    CurrentIfMatch,
    /// `current` is there before the marker.
    CurrentBeforeMarker,
    /// The marker is put only where there is none.
    MarkerIfAbsent,
    /// The marker is there before the SUCCESS.
    MarkerBeforeSuccess,
    /// The SUCCESS is built from the marker as stored.
    SuccessFromStoredMarker,
    /// A message is acknowledged after its event was published.
    PublishBeforeAcknowledge,
    /// After a record that goes back, every later record of its group goes back.
    LaterRecordsReturned,
    /// A failure is written into the open claim before it is published; a sealed run cannot fail.
    FailureThroughClaim,
    /// A failure is final for the message that it was decided for.
    FailureIsFinalForMessage,
}

impl Guard {
    pub(crate) const ALL: [Self; 25] = [
        Self::MarkerFirst,
        Self::MarkerDigest,
        Self::ClaimIfAbsent,
        Self::ClaimDigest,
        Self::VersionAboveCurrent,
        Self::DataIfAbsent,
        Self::DataCompared,
        Self::DataBeforeSeal,
        Self::Seal,
        Self::SealIfMatch,
        Self::SealedIsFinished,
        Self::MoveIfMatch,
        Self::ManifestIfAbsent,
        Self::ManifestCompared,
        Self::ManifestBeforeCurrent,
        Self::CurrentForwardOnly,
        Self::CurrentIfMatch,
        Self::CurrentBeforeMarker,
        Self::MarkerIfAbsent,
        Self::MarkerBeforeSuccess,
        Self::SuccessFromStoredMarker,
        Self::PublishBeforeAcknowledge,
        Self::LaterRecordsReturned,
        Self::FailureThroughClaim,
        Self::FailureIsFinalForMessage,
    ];
}

/// The guards in force, a bit for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Guards(u32);

impl Guards {
    /// The protocol as it is.
    pub(crate) const ALL: Self = Self(u32::MAX);

    /// The protocol without these.
    pub(crate) fn without(taken_away: &[Guard]) -> Self {
        Self(taken_away.iter().fold(u32::MAX, |mask, guard| mask & !(1 << (*guard as u32))))
    }

    pub(crate) fn has(self, guard: Guard) -> bool {
        self.0 & (1 << (guard as u32)) != 0
    }
}
