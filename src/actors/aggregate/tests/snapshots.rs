//! Snapshots are shortcuts: only those of this log are taken.

use super::*;
use crate::log::object::ObjectHash;

#[test]
fn law_11_a_snapshot_of_another_log_is_not_believed_and_is_replaced() {
    run(async {
        let snapshot = async |store: &MemoryObjectStore| loop {
            let key = crate::log::keys::snapshot(&purse("a"), 2);
            if let Some(found) = store.get(&key).await.expect("read") {
                let json: serde_json::Value = serde_json::from_slice(&found).expect("JSON");
                return (key, found, json);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let (ours, other) = (
            Arc::new(MemoryObjectStore::default()),
            Arc::new(MemoryObjectStore::default()),
        );
        for (store, by) in [(&ours, 1), (&other, 7)] {
            let p = process(store.clone(), RegistrySettings::default());
            for id in 1..=25 {
                p.change("a", by, id).await.expect("ok");
            }
        }
        let (key, sound, json) = snapshot(&ours).await;
        assert_eq!(json["state"]["coins"], 20, "{json}");
        let (_, foreign, _) = snapshot(&other).await;
        let mut altered = json.clone();
        altered["version"] = 19.into();
        let mut unmarked = json.clone();
        unmarked.as_object_mut().expect("object").remove("on");
        let rich = String::from_utf8(sound.to_vec()).expect("text");
        let rich = rich.replace("\"coins\":20", "\"coins\":1020");
        let planted = [
            foreign,
            "{".into(),
            altered.to_string().into(),
            unmarked.to_string().into(),
            rich.clone().into(),
        ];
        for planted in planted {
            ours.put(&key, planted.clone()).await.expect("planted");
            let p = process(ours.clone(), RegistrySettings::default());
            let seen = p.read("a").await;
            assert_eq!(
                (seen.version, seen.state.coins),
                (Version(25), 25),
                "{planted:?}"
            );
            let (_, now, json) = snapshot(&ours).await;
            assert_ne!(now, planted);
            assert_eq!(json["state"]["coins"], json["version"]);
        }
        // One of this log is used: it is told from the events by what only it says.
        let hash = |text: &str| {
            let state = &text[text.find("\"state\":").expect("a state") + 8..text.len() - 1];
            serde_json::to_string(&ObjectHash::of(state.as_bytes())).expect("a hash")
        };
        let sound = String::from_utf8(sound.to_vec()).expect("text");
        let rich = rich.replace(&hash(&sound), &hash(&rich));
        ours.put(&key, rich.into()).await.expect("put");
        let p = process(ours, RegistrySettings::default());
        assert_eq!(p.read("a").await.state.coins, 1025);
    });
}
