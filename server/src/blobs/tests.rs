use super::*;
use futures_util::stream;

fn local() -> (tempfile::TempDir, Blobs) {
    let folder = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(folder.path().join("data").to_str().unwrap(), &S3Options::default()).unwrap();
    (folder, blobs)
}

fn chunks(parts: &[&'static [u8]]) -> impl Stream<Item = Result<Bytes, String>> + Unpin {
    stream::iter(parts.iter().map(|part| Ok(Bytes::from_static(part))).collect::<Vec<_>>())
}

fn count(folder: &tempfile::TempDir, name: &str) -> usize {
    std::fs::read_dir(folder.path().join("data").join(name)).map_or(0, Iterator::count)
}

#[tokio::test]
async fn a_stream_is_stored_once_under_its_digest_and_read_by_ranges() {
    let (folder, blobs) = local();
    let stored = blobs.put_stream(chunks(&[b"hello ", b"world"]), 11).await.unwrap();
    assert_eq!(stored, Stored { sha256: Sha256Hex::of(b"hello world"), length: 11 });
    assert_eq!(blobs.put_stream(chunks(&[b"hello world"]), 11).await.unwrap(), stored);
    assert_eq!((count(&folder, "blobs"), count(&folder, UPLOADS)), (1, 0));
    let key = payload_key(&stored.sha256);
    assert_eq!(blobs.get_range(&key, 6..11).await.unwrap(), "world");
    assert_eq!(blobs.head(&key).await.unwrap().unwrap().size, 11);
    assert!(blobs.head("blobs/none").await.unwrap().is_none());
}

#[tokio::test]
async fn an_upload_larger_than_its_parts_arrives_whole() {
    let (_folder, blobs) = local();
    let part = Bytes::from(vec![7_u8; 3 * 1024 * 1024]);
    let parts: Vec<Result<Bytes, String>> = vec![Ok(part); 5];
    let stored = blobs.put_stream(stream::iter(parts), u64::MAX).await.unwrap();
    assert_eq!(stored.length, 15 * 1024 * 1024);
    let whole = blobs.get_range(&payload_key(&stored.sha256), 0..stored.length).await.unwrap();
    assert_eq!(Sha256Hex::of(&whole), stored.sha256);
}

#[tokio::test]
async fn an_upload_that_is_too_long_or_breaks_off_leaves_nothing() {
    let (folder, blobs) = local();
    assert!(matches!(blobs.put_stream(chunks(&[b"12345", b"6"]), 5).await, Err(BlobError::TooLarge(5))));
    let broken = stream::iter(vec![Ok(Bytes::from_static(b"1")), Err("reset by peer")]);
    assert!(matches!(blobs.put_stream(broken, 5).await, Err(BlobError::Body(why)) if why == "reset by peer"));
    assert_eq!((count(&folder, "blobs"), count(&folder, UPLOADS)), (0, 0));
}

#[tokio::test]
async fn creating_is_repeatable_with_the_same_bytes_and_refused_with_others() {
    let (_folder, blobs) = local();
    blobs.create("a/1.json", Bytes::from_static(b"one")).await.unwrap();
    blobs.create("a/1.json", Bytes::from_static(b"one")).await.unwrap();
    let other = blobs.create("a/1.json", Bytes::from_static(b"two")).await;
    assert!(matches!(other, Err(BlobError::Exists(key)) if key == "a/1.json"));
    assert_eq!(blobs.document("a/1.json").await.unwrap().unwrap().bytes, "one");
}

#[tokio::test]
async fn of_two_writers_who_read_the_same_document_one_replaces_it() {
    let (_folder, blobs) = local();
    blobs.replace("t.json", None, Bytes::from_static(b"one")).await.unwrap();
    let read = blobs.document("t.json").await.unwrap().unwrap();
    blobs.replace("t.json", Some(&read), Bytes::from_static(b"two")).await.unwrap();
    let late = blobs.replace("t.json", Some(&read), Bytes::from_static(b"three")).await;
    assert!(matches!(late, Err(BlobError::Changed(_))));
    assert!(matches!(blobs.replace("t.json", None, Bytes::from_static(b"x")).await, Err(BlobError::Changed(_))));
    assert_eq!(blobs.document("t.json").await.unwrap().unwrap().bytes, "two");
}

#[tokio::test]
async fn abandoned_uploads_are_swept_and_fresh_ones_kept() {
    let (folder, blobs) = local();
    assert_eq!(blobs.sweep_uploads(i64::MAX).await.unwrap(), 0);
    blobs.create("uploads/left-behind", Bytes::from_static(b"x")).await.unwrap();
    // A process that was killed while it wrote leaves this name.
    std::fs::write(folder.path().join("data/uploads/half#1"), b"y").unwrap();
    assert_eq!(blobs.sweep_uploads(0).await.unwrap(), 0);
    assert_eq!(blobs.sweep_uploads(i64::MAX).await.unwrap(), 2);
    assert_eq!(count(&folder, UPLOADS), 0);
}

#[test]
fn a_location_is_a_folder_or_a_bucket_and_secrets_are_never_shown() {
    let options = S3Options {
        endpoint: Some("http://127.0.0.1:1".to_owned()),
        access_key_id: Some("id".to_owned()),
        secret_access_key: Some("hush".to_owned()),
        ..S3Options::default()
    };
    let bucket = Blobs::open("s3://firmware/tillward", &options).unwrap();
    assert!(bucket.is_shared());
    assert!(!format!("{options:?} {bucket:?}").contains("hush"));
    for bad in ["", "s3://", "ftp://host/x"] {
        assert!(matches!(Blobs::open(bad, &options), Err(BlobError::Location(_))), "{bad}");
    }
}
