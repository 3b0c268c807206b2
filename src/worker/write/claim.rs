//! A run's claim: the register that decides which version a run has, and whether it may still fail.
//!
//! It is open, sealed or failed (docs/reliability.md). Every change of it is conditional on the tag last seen; who loses
//! reads it again and goes on from what it says.

use crate::keys::VersionTs;
use crate::manifest::{Claim, Failed};
use crate::request::Run;
use crate::storage::{self, ByteRange, ETag, ObjectStorage, PutCondition};
use crate::worker::write::{
    Current, Error, JSON, MOST_CONDITIONAL_ATTEMPTS, check_digest, get_if_present, marker, parse, put_if_absent,
    rfc3339, to_json,
};

/// A version that lies further in the future than this is no neighbour of ours but a wrong clock.
const NEIGHBOUR_SECONDS: i64 = 60;

/// A claim as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// What it says.
    pub claim: Claim,
    etag: ETag,
}

/// Whether the run is being done for another request: for a request that cannot be worked on, before its failure is
/// published.
///
/// # Errors
/// When it is, or the store fails.
pub async fn check_absent(run: &Run, storage: &dyn ObjectStorage) -> Result<(), Error> {
    let key = run.keys.claim(&run.run_id);
    match get_if_present(storage, &key).await? {
        None => Ok(()),
        Some(object) => check_digest(run, &key, &parse::<Claim>(&key, &object)?.request_digest),
    }
}

/// Claims the run's version, or finds the claim that an earlier attempt made.
///
/// # Errors
/// When the run is claimed for another request, or the store fails.
pub async fn obtain(
    run: &Run,
    current: &Current,
    now: jiff::Timestamp,
    storage: &dyn ObjectStorage,
) -> Result<Claimed, Error> {
    let key = run.keys.claim(&run.run_id);
    let claim = Claim {
        run_id: run.run_id.clone(),
        metric_code: run.metric_code.clone(),
        version_ts: first_version(current, now),
        claimed_at: rfc3339(now),
        request_digest: run.request_digest.clone(),
        sealed: None,
        failed: None,
    };
    match put_if_absent(&key, to_json(&key, &claim)?, JSON, storage).await? {
        Some(etag) => Ok(Claimed { claim, etag }),
        None => stored(run, storage).await,
    }
}

/// Takes up a claim that was failed: for another message, a redrive, it is opened again. For the message that failed it
/// stays as it is, and so does any claim that was not failed.
///
/// # Errors
/// When this message has failed the run, or the store fails.
pub async fn take_up(
    run: &Run,
    message_id: &str,
    claimed: Claimed,
    storage: &dyn ObjectStorage,
) -> Result<Claimed, Error> {
    let mut claimed = claimed;
    for _ in 0..MOST_CONDITIONAL_ATTEMPTS {
        let Some(failed) = &claimed.claim.failed else { return Ok(claimed) };
        if failed.message_id == message_id {
            let Failed { error_code, error_message, .. } = failed.clone();
            return Err(Error::FailedBefore { error_code, error_message });
        }
        claimed = update(run, &claimed, Claim { failed: None, ..claimed.claim.clone() }, storage).await?;
    }
    Err(Error::Contended { key: run.keys.claim(&run.run_id).to_string() })
}

/// What became of the wish to fail a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// The failure may be published.
    Allowed,
    /// Another attempt has done the run: its SUCCESS is to be published.
    Done,
    /// The claim is another request's, whose run this failure is not about.
    OtherRequest,
}

/// Records in the claim that the run failed, before its FAILURE is published: an attempt that is still at work cannot
/// seal the run after that. A run that is sealed already fails only where its marker is missing.
///
/// # Errors
/// When the store fails.
pub async fn fail(run: &Run, failed: &Failed, storage: &dyn ObjectStorage) -> Result<Failing, Error> {
    let key = run.keys.claim(&run.run_id);
    for _ in 0..MOST_CONDITIONAL_ATTEMPTS {
        let Some(object) = get_if_present(storage, &key).await? else {
            // A finished run may have lost its claim.
            return done_or_allowed(run, storage).await;
        };
        let claim: Claim = parse(&key, &object)?;
        if claim.request_digest != run.request_digest {
            return Ok(Failing::OtherRequest);
        }
        if claim.sealed.is_some() {
            return done_or_allowed(run, storage).await;
        }
        let is_recorded = claim.failed.as_ref().is_some_and(|other| other.message_id == failed.message_id);
        if is_recorded {
            return Ok(Failing::Allowed);
        }
        let claimed = Claimed { claim, etag: object.etag };
        let claim = Claim { failed: Some(failed.clone()), ..claimed.claim.clone() };
        update(run, &claimed, claim, storage).await?;
    }
    Err(Error::Contended { key: key.to_string() })
}

async fn done_or_allowed(run: &Run, storage: &dyn ObjectStorage) -> Result<Failing, Error> {
    match marker::find(run, storage).await {
        Ok(Some(_)) => Ok(Failing::Done),
        Ok(None) => Ok(Failing::Allowed),
        Err(Error::OtherRequest { .. }) => Ok(Failing::OtherRequest),
        Err(error) => Err(error),
    }
}

/// This second; or the one after `current`, where a run of the same metric has just taken this one.
fn first_version(current: &Current, now: jiff::Timestamp) -> VersionTs {
    let this_second = VersionTs::from_unix_seconds(now.as_second());
    match current.version {
        Some(newest) if newest >= this_second && newest.unix_seconds() - now.as_second() <= NEIGHBOUR_SECONDS => {
            newest.next()
        }
        _ => this_second,
    }
}

async fn stored(run: &Run, storage: &dyn ObjectStorage) -> Result<Claimed, Error> {
    let key = run.keys.claim(&run.run_id);
    let object = storage.get(&key, ByteRange::Whole, None).await?;
    let claim: Claim = parse(&key, &object)?;
    check_digest(run, &key, &claim.request_digest)?;
    Ok(Claimed { claim, etag: object.etag })
}

/// Gives the run a fresh version; the claim is open again.
///
/// # Errors
/// When the store fails.
pub async fn move_on(
    run: &Run,
    claimed: &Claimed,
    now: jiff::Timestamp,
    storage: &dyn ObjectStorage,
) -> Result<Claimed, Error> {
    let taken = claimed.claim.version_ts;
    let version_ts = taken.next().max(VersionTs::from_unix_seconds(now.as_second()));
    tracing::warn!(%taken, %version_ts, "the version is taken, moving to a fresh one");
    update(run, claimed, Claim { version_ts, sealed: None, ..claimed.claim.clone() }, storage).await
}

/// Updates the claim if nobody else has; otherwise the answer is what the other wrote.
pub(super) async fn update(
    run: &Run,
    claimed: &Claimed,
    claim: Claim,
    storage: &dyn ObjectStorage,
) -> Result<Claimed, Error> {
    let key = run.keys.claim(&run.run_id);
    let condition = PutCondition::IfMatch(claimed.etag.clone());
    match storage.put(&key, to_json(&key, &claim)?, JSON, condition).await {
        Ok(etag) => Ok(Claimed { claim, etag }),
        Err(storage::Error::Precondition { .. } | storage::Error::Conflict { .. }) => stored(run, storage).await,
        Err(error) => Err(error.into()),
    }
}
