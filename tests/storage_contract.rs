//! One contract, every store: memory, a folder, and S3 through a local server.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a contract that is broken stops the test")]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use futures::stream::{self, StreamExt};
use metrics_engine::keys::{Key, Prefix};
use metrics_engine::storage::below::Below;
use metrics_engine::storage::folder::FolderStorage;
use metrics_engine::storage::memory::MemoryStorage;
use metrics_engine::storage::metered::Metered;
use metrics_engine::storage::s3::S3Storage;
use metrics_engine::storage::{ByteRange, ETag, Error, ObjectStorage, Part, PutCondition, Upload};
use support::local_aws::LocalAws;

type Store = dyn ObjectStorage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_keeps_the_contract() {
    contract(Arc::new(MemoryStorage::new())).await;
    contract(Arc::new(Below::new(MemoryStorage::new(), Prefix::parse("team").unwrap()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    contract(Arc::new(FolderStorage::new(folder.path()).unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_keeps_the_contract() {
    let aws = LocalAws::start().await;
    aws.bucket("contract").await;
    let store = Arc::new(Metered::new(S3Storage::new(aws.clients.s3.clone(), "contract")));
    contract(store.clone()).await;
    contract(Arc::new(Below::new(store.clone(), Prefix::parse("team/data").unwrap()))).await;
    assert_eq!(listed(&*store, "team/data/puts").await, ["team/data/puts/a"]);
    assert!(store.usage().requests > 1_100 && store.usage().read_bytes > 0 && store.usage().written_bytes > 0);
    what_only_s3_can_say(&aws).await;
}

/// Locks and renames have to hold between processes: this one and two children count together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_share_a_folder_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = FolderStorage::new(folder.path()).unwrap();
    put(&store, "race/count", "0", PutCondition::IfAbsent).await.unwrap();
    let child = || {
        let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
        let arguments = ["--ignored", "--exact", "a_child_process_counts_in_its_folder"];
        command.args(arguments).current_dir(folder.path()).kill_on_drop(true).output()
    };
    let (one, two, ()) = tokio::join!(child(), child(), count(&store));
    for output in [one.unwrap(), two.unwrap()] {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    assert_eq!(read(&store, "race/count").await, "300");
}

#[tokio::test]
#[ignore = "a part of processes_that_share_a_folder_lose_nothing, which runs it in a child process"]
async fn a_child_process_counts_in_its_folder() {
    let here = std::env::current_dir().unwrap();
    if here.join("race/count").exists() {
        count(&FolderStorage::new(&here).unwrap()).await;
    }
}

async fn count(store: &Store) {
    for _ in 0..100 {
        increment(store, "race/count").await;
    }
}

async fn contract(store: Arc<Store>) {
    objects_are_read_whole_and_in_ranges(&*store).await;
    an_empty_object_is_an_object(&*store).await;
    what_is_not_there_is_not_found(&*store).await;
    a_read_can_insist_on_a_tag(&*store).await;
    puts_keep_their_conditions(&*store).await;
    odd_keys_are_keys(&*store).await;
    a_prefix_is_a_folder(&*store).await;
    long_listings_are_complete_and_in_order(&*store).await;
    parts_become_an_object_when_the_upload_is_completed(&*store).await;
    completions_keep_their_conditions(&*store).await;
    a_part_is_what_was_uploaded_last_under_its_number(&*store).await;
    nothing_is_left_of_an_aborted_upload(&*store).await;
    of_concurrent_completions_one_wins(store.clone()).await;
    of_concurrent_creations_one_wins(store.clone()).await;
    concurrent_updates_lose_nothing(store).await;
}

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

async fn put(store: &Store, text: &str, body: &str, condition: PutCondition) -> Result<ETag, Error> {
    store.put(&key(text), Bytes::copy_from_slice(body.as_bytes()), "text/plain", condition).await
}

async fn read(store: &Store, text: &str) -> String {
    let object = store.get(&key(text), ByteRange::Whole, None).await.unwrap();
    String::from_utf8(object.bytes.to_vec()).unwrap()
}

async fn listed(store: &Store, prefix: &str) -> Vec<String> {
    let objects = store.list(&Prefix::parse(prefix).unwrap()).await.unwrap();
    objects.iter().map(|object| object.key.to_string()).collect()
}

async fn objects_are_read_whole_and_in_ranges(store: &Store) {
    let etag = put(store, "ranges/digits", "0123456789", PutCondition::Always).await.unwrap();
    assert!(!etag.0.is_empty() && !etag.0.contains('"'), "{etag}");
    for (range, expected) in [
        (ByteRange::Whole, "0123456789"),
        (ByteRange::Bounded(0..10), "0123456789"),
        (ByteRange::Bounded(2..5), "234"),
        (ByteRange::Bounded(9..10), "9"),
        (ByteRange::Bounded(8..1_000), "89"),
        (ByteRange::Bounded(0..u64::MAX), "0123456789"),
        (ByteRange::Bounded(4..4), ""),
        (ByteRange::Bounded(10..11), ""),
        (ByteRange::Bounded(1_000..2_000), ""),
        (ByteRange::Suffix(0), ""),
        (ByteRange::Suffix(3), "789"),
        (ByteRange::Suffix(1_000), "0123456789"),
    ] {
        let object = store.get(&key("ranges/digits"), range.clone(), None).await.unwrap();
        assert_eq!((object.bytes.as_ref(), object.size_bytes), (expected.as_bytes(), 10), "{range:?}");
        assert_eq!(object.etag, etag, "{range:?}");
    }
}

async fn an_empty_object_is_an_object(store: &Store) {
    let etag = put(store, "empty/object", "", PutCondition::IfAbsent).await.unwrap();
    for range in [ByteRange::Whole, ByteRange::Bounded(0..8), ByteRange::Suffix(8), ByteRange::Suffix(0)] {
        let object = store.get(&key("empty/object"), range.clone(), Some(&etag)).await.unwrap();
        assert_eq!((object.bytes.len(), object.size_bytes, &object.etag), (0, 0, &etag), "{range:?}");
    }
    assert_eq!(store.list(&Prefix::parse("empty").unwrap()).await.unwrap()[0].size_bytes, 0);
    assert!(matches!(put(store, "empty/object", "x", PutCondition::IfAbsent).await, Err(Error::Precondition { .. })));
}

async fn what_is_not_there_is_not_found(store: &Store) {
    for range in [ByteRange::Whole, ByteRange::Bounded(0..4), ByteRange::Bounded(0..0), ByteRange::Suffix(4)] {
        let answer = store.get(&key("absent/object"), range.clone(), None).await;
        assert!(matches!(&answer, Err(Error::NotFound { key }) if key == "absent/object"), "{range:?}: {answer:?}");
    }
    assert_eq!(listed(store, "absent").await, Vec::<String>::new());
}

async fn a_read_can_insist_on_a_tag(store: &Store) {
    let old = put(store, "tags/object", "old", PutCondition::Always).await.unwrap();
    assert!(store.get(&key("tags/object"), ByteRange::Whole, Some(&old)).await.is_ok());
    let new = put(store, "tags/object", "new", PutCondition::Always).await.unwrap();
    assert_ne!(old, new);
    for range in [ByteRange::Whole, ByteRange::Bounded(0..2), ByteRange::Bounded(0..0), ByteRange::Suffix(2)] {
        let answer = store.get(&key("tags/object"), range.clone(), Some(&old)).await;
        assert!(matches!(answer, Err(Error::Precondition { .. })), "{range:?}: {answer:?}");
    }
    let listed = store.list(&Prefix::parse("tags").unwrap()).await.unwrap();
    assert_eq!((&listed[0].etag, listed[0].size_bytes), (&new, 3));
}

async fn puts_keep_their_conditions(store: &Store) {
    let refused = |answer: Result<ETag, Error>| matches!(answer, Err(Error::Precondition { .. }));
    let nothing = ETag("0123456789abcdef0123456789abcdef".to_owned());
    assert!(refused(put(store, "puts/a", "0", PutCondition::IfMatch(nothing.clone())).await));
    let first = put(store, "puts/a", "1", PutCondition::IfAbsent).await.unwrap();
    assert!(refused(put(store, "puts/a", "2", PutCondition::IfAbsent).await));
    assert!(refused(put(store, "puts/a", "2", PutCondition::IfMatch(nothing)).await));
    assert_eq!(read(store, "puts/a").await, "1");
    let second = put(store, "puts/a", "2", PutCondition::IfMatch(first.clone())).await.unwrap();
    assert!(refused(put(store, "puts/a", "3", PutCondition::IfMatch(first)).await));
    put(store, "puts/a", "4", PutCondition::IfMatch(second)).await.unwrap();
    assert_eq!(read(store, "puts/a").await, "4");
    put(store, "puts/a", "5", PutCondition::Always).await.unwrap();
    assert_eq!(read(store, "puts/a").await, "5");
}

async fn odd_keys_are_keys(store: &Store) {
    let mut keys =
        ["a b", "a+b", "a=b/year=2024", "100%", "%2e%2e", "a%20b", "~!@#$&'(),;?[]{}|\\\"<>`^*", "..a", ".b"]
            .map(|name| format!("odd/{name}"));
    keys.sort_unstable();
    for text in &keys {
        put(store, text, text, PutCondition::IfAbsent).await.unwrap();
    }
    assert_eq!(listed(store, "odd").await, keys);
    for text in &keys {
        assert_eq!(read(store, text).await, *text);
    }
    assert_eq!(listed(store, "odd/a=b").await, ["odd/a=b/year=2024"]);
}

async fn a_prefix_is_a_folder(store: &Store) {
    for text in ["data/A/x", "data/A/y/z", "data/A_B/x", "data/AB", "data/a/x"] {
        put(store, text, "", PutCondition::Always).await.unwrap();
    }
    assert_eq!(listed(store, "data/A").await, ["data/A/x", "data/A/y/z"]);
    assert_eq!(listed(store, "data/A/").await, ["data/A/x", "data/A/y/z"]);
    assert_eq!(listed(store, "data/AB").await, Vec::<String>::new());
    // Bytewise: '/' comes before 'B' and '_', capitals before small letters.
    assert_eq!(listed(store, "data").await, ["data/A/x", "data/A/y/z", "data/AB", "data/A_B/x", "data/a/x"]);
}

async fn long_listings_are_complete_and_in_order(store: &Store) {
    let mut keys: Vec<String> = (0..1_050).map(|number| format!("long/{number}/data")).collect();
    let puts = stream::iter(keys.clone()).map(|text| async move {
        put(store, &text, &text, PutCondition::Always).await.unwrap();
    });
    puts.buffer_unordered(16).collect::<()>().await;
    keys.sort_unstable();
    assert_eq!(listed(store, "long").await, keys);
}

/// An upload of one part.
async fn begun(store: &Store, text: &str, body: &str) -> (Upload, Vec<Part>) {
    let upload = store.begin_upload(&key(text), "text/plain").await.unwrap();
    let part = store.upload_part(&upload, 1, Bytes::copy_from_slice(body.as_bytes())).await.unwrap();
    (upload, vec![part])
}

async fn parts_become_an_object_when_the_upload_is_completed(store: &Store) {
    // S3 takes no smaller part before the last.
    let (first, last) = (Bytes::from(vec![b'1'; 5 << 20]), Bytes::from_static(b"the end"));
    let upload = store.begin_upload(&key("parts/object"), "text/plain").await.unwrap();
    let (two, one) =
        tokio::join!(store.upload_part(&upload, 2, last.clone()), store.upload_part(&upload, 1, first.clone()),);
    let parts = [one.unwrap(), two.unwrap()];
    assert_eq!(parts.each_ref().map(|part| part.number), [1, 2]);
    assert_eq!(listed(store, "parts").await, Vec::<String>::new());
    assert!(store.get(&key("parts/object"), ByteRange::Whole, None).await.is_err(), "nobody sees parts");
    let etag = store.complete_upload(&upload, &parts, PutCondition::IfAbsent).await.unwrap();
    assert!(!etag.0.is_empty() && !etag.0.contains('"'), "{etag}");
    let object = store.get(&key("parts/object"), ByteRange::Whole, Some(&etag)).await.unwrap();
    assert_eq!(object.bytes, [first, last].concat());
    assert_eq!(listed(store, "parts").await, ["parts/object"]);
}

async fn completions_keep_their_conditions(store: &Store) {
    let old = put(store, "parts/a", "old", PutCondition::Always).await.unwrap();
    let wrong = PutCondition::IfMatch(ETag("0123456789abcdef0123456789abcdef".to_owned()));
    for condition in [PutCondition::IfAbsent, wrong.clone()] {
        let (upload, parts) = begun(store, "parts/a", "new").await;
        let answer = store.complete_upload(&upload, &parts, condition).await;
        assert!(matches!(answer, Err(Error::Precondition { .. })), "{answer:?}");
        store.abort_upload(&upload).await.unwrap();
        assert_eq!(read(store, "parts/a").await, "old");
    }
    let (upload, parts) = begun(store, "parts/nothing", "new").await;
    let answer = store.complete_upload(&upload, &parts, wrong).await;
    assert!(matches!(answer, Err(Error::Precondition { .. })), "{answer:?}");
    for (condition, body) in [(PutCondition::IfMatch(old), "newer"), (PutCondition::Always, "newest")] {
        let (upload, parts) = begun(store, "parts/a", body).await;
        store.complete_upload(&upload, &parts, condition).await.unwrap();
        assert_eq!(read(store, "parts/a").await, body);
    }
}

async fn a_part_is_what_was_uploaded_last_under_its_number(store: &Store) {
    let (upload, before) = begun(store, "parts/b", "before").await;
    let part = store.upload_part(&upload, 1, Bytes::from_static(b"after")).await.unwrap();
    let strange = Part { number: 2, ..part.clone() };
    for parts in [&before[..], &[part.clone(), strange]] {
        let answer = store.complete_upload(&upload, parts, PutCondition::IfAbsent).await;
        assert!(matches!(answer, Err(Error::Refused { .. })), "{answer:?}");
    }
    store.complete_upload(&upload, &[part], PutCondition::IfAbsent).await.unwrap();
    assert_eq!(read(store, "parts/b").await, "after");
    store.abort_upload(&upload).await.unwrap();
    assert_eq!(read(store, "parts/b").await, "after", "what is completed is no upload any more");
}

async fn nothing_is_left_of_an_aborted_upload(store: &Store) {
    let (upload, parts) = begun(store, "parts/c", "x").await;
    for _ in 0..2 {
        store.abort_upload(&upload).await.unwrap();
    }
    let part = store.upload_part(&upload, 1, Bytes::from_static(b"x")).await;
    assert!(matches!(part, Err(Error::NotFound { .. })), "{part:?}");
    for condition in [PutCondition::IfAbsent, PutCondition::IfMatch(ETag("0123456789abcdef".to_owned()))] {
        let answer = store.complete_upload(&upload, &parts, condition).await;
        assert!(matches!(&answer, Err(Error::NotFound { key }) if key == "parts/c"), "{answer:?}");
    }
    assert!(store.get(&key("parts/c"), ByteRange::Whole, None).await.is_err());
}

async fn of_concurrent_completions_one_wins(store: Arc<Store>) {
    let tasks = (0..8).map(|task: i32| {
        let store = store.clone();
        tokio::spawn(async move {
            let (upload, parts) = begun(&*store, "race/upload", &task.to_string()).await;
            let answer = store.complete_upload(&upload, &parts, PutCondition::IfAbsent).await;
            store.abort_upload(&upload).await.unwrap();
            (task, answer)
        })
    });
    let mut winners = Vec::new();
    for answer in join_all(tasks).await {
        match answer.unwrap() {
            (task, Ok(_)) => winners.push(task),
            (_, Err(Error::Precondition { .. } | Error::Conflict { .. })) => {}
            (task, Err(error)) => panic!("task {task}: {error}"),
        }
    }
    let [winner] = winners.as_slice() else { panic!("winners: {winners:?}") };
    assert_eq!(read(&*store, "race/upload").await, winner.to_string());
}

async fn of_concurrent_creations_one_wins(store: Arc<Store>) {
    let tasks = (0..32).map(|task| {
        let store = store.clone();
        tokio::spawn(async move { (task, put(&*store, "race/one", &task.to_string(), PutCondition::IfAbsent).await) })
    });
    let mut winners = Vec::new();
    for answer in join_all(tasks).await {
        match answer.unwrap() {
            (task, Ok(etag)) => winners.push((task, etag)),
            (_, Err(Error::Precondition { .. } | Error::Conflict { .. })) => {}
            (task, Err(error)) => panic!("task {task}: {error}"),
        }
    }
    let [(winner, etag)] = winners.as_slice() else { panic!("winners: {winners:?}") };
    assert_eq!(read(&*store, "race/one").await, winner.to_string());
    assert!(store.get(&key("race/one"), ByteRange::Whole, Some(etag)).await.is_ok());
}

async fn concurrent_updates_lose_nothing(store: Arc<Store>) {
    put(&*store, "race/count", "0", PutCondition::IfAbsent).await.unwrap();
    let tasks = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            for _ in 0..5 {
                increment(&*store, "race/count").await;
            }
        })
    });
    for task in join_all(tasks).await {
        task.unwrap();
    }
    assert_eq!(read(&*store, "race/count").await, "40");
}

async fn increment(store: &Store, text: &str) {
    loop {
        let object = store.get(&key(text), ByteRange::Whole, None).await.unwrap();
        let count: u32 = std::str::from_utf8(&object.bytes).unwrap().parse().unwrap();
        match put(store, text, &(count + 1).to_string(), PutCondition::IfMatch(object.etag)).await {
            Ok(_) => return,
            Err(Error::Precondition { .. } | Error::Conflict { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Markers of empty folders, keys that are none, buckets that are not there, servers that are gone.
async fn what_only_s3_can_say(aws: &LocalAws) {
    aws.bucket("only-s3").await;
    for text in ["m/", "m/folder/", "m/a//b", "m/control\u{1}", "m/á", "m/object"] {
        aws.put("only-s3", text, "").await;
    }
    let store = S3Storage::new(aws.clients.s3.clone(), "only-s3");
    assert_eq!(listed(&store, "m").await, ["m/object"]);

    let elsewhere = S3Storage::new(aws.clients.s3.clone(), "no-such-bucket");
    let refused = |error: Error| matches!(error, Error::Refused { .. });
    assert!(refused(elsewhere.get(&key("a"), ByteRange::Whole, None).await.unwrap_err()));
    assert!(refused(elsewhere.list(&Prefix::parse("a").unwrap()).await.unwrap_err()));
    assert!(refused(put(&elsewhere, "a", "", PutCondition::Always).await.unwrap_err()));

    let nowhere = support::local_aws::clients("http://127.0.0.1:9").await;
    let error = S3Storage::new(nowhere.s3, "only-s3").get(&key("a"), ByteRange::Whole, None).await.unwrap_err();
    assert!(matches!(&error, Error::Transient { .. }) && error.to_string().contains("refused"), "{error}");
}
