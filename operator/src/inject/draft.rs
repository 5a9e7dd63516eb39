//! A pod as it changes: each change is made at once, and remembered as an operation of the patch.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, MoveOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation};
use serde_json::{Map, Value};

/// A pod, and the operations that have made it what it is.
#[derive(Debug)]
pub(super) struct Draft {
    pod: Value,
    operations: Vec<PatchOperation>,
}

// === impl Draft ===

impl Draft {
    pub(super) fn new(pod: &Value) -> Self {
        Self { pod: pod.clone(), operations: Vec::new() }
    }

    /// The pod as it is now.
    pub(super) fn pod(&self) -> &Value {
        &self.pod
    }

    /// Whether it is another than at first.
    pub(super) fn is_changed(&self) -> bool {
        !self.operations.is_empty()
    }

    /// The patch, and the pod that it makes.
    pub(super) fn finish(self) -> (Patch, Value) {
        (Patch(self.operations), self.pod)
    }

    /// What stands at `path`; nothing and null are the same.
    pub(super) fn get(&self, path: &[&str]) -> Option<&Value> {
        let found = path.iter().try_fold(&self.pod, |place, token| match place {
            Value::Array(list) => list.get(token.parse::<usize>().ok()?),
            place => place.get(token),
        });
        found.filter(|value| !value.is_null())
    }

    /// The list at `path`; empty where there is none.
    pub(super) fn list(&self, path: &[&str]) -> &[Value] {
        self.get(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Whether the list at `path` has an entry whose `key` is `value`.
    pub(super) fn has(&self, path: &[&str], key: &str, value: &str) -> bool {
        self.list(path).iter().any(|entry| entry[key] == value)
    }

    /// Writes `value` at `path`, below objects that are made if need be.
    pub(super) fn set(&mut self, path: &[&str], value: Value) {
        let present = self.get(path);
        if present == Some(&value) {
            return;
        }
        let is_new = present.is_none();
        for end in 1..path.len() {
            if self.get(&path[..end]).is_none() {
                self.apply_add(&path[..end], Value::Object(Map::new()));
            }
        }
        if is_new {
            self.apply_add(path, value);
            return;
        }
        if let Some(place) = self.place(path) {
            *place = value.clone();
            self.operations.push(PatchOperation::Replace(ReplaceOperation { path: pointer(path), value }));
        }
    }

    /// Inserts `value` into the list at `path`, which is made if need be.
    pub(super) fn insert(&mut self, path: &[&str], index: usize, value: Value) {
        let Some(Value::Array(list)) = self.place(path) else {
            self.set(path, Value::Array(vec![value]));
            return;
        };
        let index = index.min(list.len());
        list.insert(index, value.clone());
        let path = pointer_to(path, index);
        self.operations.push(PatchOperation::Add(AddOperation { path, value }));
    }

    /// Appends `value` to the list at `path`, which is made if need be.
    pub(super) fn push(&mut self, path: &[&str], value: Value) {
        self.insert(path, usize::MAX, value);
    }

    /// Moves an entry of the list at `path` to where, without it, the place `to` is.
    pub(super) fn shift(&mut self, path: &[&str], from: usize, to: usize) {
        let Some(Value::Array(list)) = self.place(path) else { return };
        if from == to || from >= list.len() || to >= list.len() {
            return;
        }
        let entry = list.remove(from);
        list.insert(to, entry);
        let (from, path) = (pointer_to(path, from), pointer_to(path, to));
        self.operations.push(PatchOperation::Move(MoveOperation { from, path }));
    }

    /// Removes the entries of the list at `path` that are to go.
    pub(super) fn remove(&mut self, path: &[&str], is_to_go: impl Fn(&Value) -> bool) {
        let places: Vec<usize> =
            self.list(path).iter().enumerate().filter(|(_, entry)| is_to_go(entry)).map(|(index, _)| index).collect();
        let Some(Value::Array(list)) = self.place(path) else { return };
        // From behind, so that the others keep their places.
        for index in places.iter().rev() {
            list.remove(*index);
        }
        let operations = places.iter().rev().map(|index| RemoveOperation { path: pointer_to(path, *index) });
        self.operations.extend(operations.map(PatchOperation::Remove));
    }

    /// `add` to an object; what stood there was nothing, or null.
    fn apply_add(&mut self, path: &[&str], value: Value) {
        let Some((key, parent)) = path.split_last() else { return };
        if let Some(Value::Object(parent)) = self.place(parent) {
            parent.insert((*key).to_owned(), value.clone());
            self.operations.push(PatchOperation::Add(AddOperation { path: pointer(path), value }));
        }
    }

    fn place(&mut self, path: &[&str]) -> Option<&mut Value> {
        path.iter().try_fold(&mut self.pod, |place, token| match place {
            Value::Array(list) => list.get_mut(token.parse::<usize>().ok()?),
            place => place.get_mut(token),
        })
    }
}

fn pointer(path: &[&str]) -> PointerBuf {
    PointerBuf::from_tokens(path.iter().copied())
}

fn pointer_to(path: &[&str], index: usize) -> PointerBuf {
    let mut pointer = pointer(path);
    pointer.push_back(index);
    pointer
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_patch_makes_the_pod_that_the_draft_shows() {
        let pod = json!({"metadata": {"labels": null}, "spec": {"containers": [{"name": "a"}], "list": [1, 2, 3]}});
        let mut draft = Draft::new(&pod);
        draft.set(&["metadata", "labels", "a/b~c"], json!("x"));
        draft.set(&["metadata", "labels", "a/b~c"], json!("y"));
        draft.set(&["spec", "deep", "er"], json!(1));
        draft.push(&["spec", "containers", "0", "env"], json!({"name": "A"}));
        draft.insert(&["spec", "containers", "0", "env"], 0, json!({"name": "B"}));
        draft.shift(&["spec", "list"], 0, 2);
        draft.push(&["spec", "list"], json!(4));
        draft.remove(&["spec", "list"], |entry| *entry == json!(2) || *entry == json!(4));
        let (patch, made) = draft.finish();
        let mut patched = pod;
        json_patch::patch(&mut patched, &patch).expect("the patch applies");
        assert_eq!(patched, made);
        assert_eq!(made["metadata"]["labels"]["a/b~c"], "y");
        assert_eq!(made["spec"]["containers"][0]["env"], json!([{"name": "B"}, {"name": "A"}]));
        assert_eq!(made["spec"]["list"], json!([3, 1]));
    }

    #[test]
    fn what_is_there_already_is_no_operation() {
        let mut draft = Draft::new(&json!({"a": {"b": 1}}));
        draft.set(&["a", "b"], json!(1));
        assert!(draft.finish().0.is_empty());
    }
}
