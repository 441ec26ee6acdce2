"""The fields that the API server of KFP 2.14.3 knows, as far as this pipeline has use for them.

It parses strictly: any other key rejects the import. `unknown_fields` finds those in a compiled pipeline.
"""

from collections.abc import Iterable
from typing import Any

# Where a key is a name of ours or Kubernetes', "*" stands for it.
VALUES = {"parameterType": "", "defaultValue": ..., "isOptional": "", "description": ""}
ARTIFACT_TYPE = {"schemaTitle": "", "schemaVersion": ""}
INPUTS = {
    "parameters": {"*": VALUES},
    "artifacts": {"*": {"artifactType": ARTIFACT_TYPE, "description": "", "isOptional": ""}},
}
OUTPUTS = {
    "parameters": {"*": {"parameterType": "", "description": ""}},
    "artifacts": {"*": {"artifactType": ARTIFACT_TYPE, "description": ""}},
}
TASK = {
    "cachingOptions": {"enableCache": ""},
    "componentRef": {"name": ""},
    "dependentTasks": "",
    "inputs": {
        "parameters": {
            "*": {
                "componentInputParameter": "",
                "taskOutputParameter": {"outputParameterKey": "", "producerTask": ""},
                "runtimeValue": {"constant": ...},
                "taskFinalStatus": {"producerTask": ""},
            }
        },
        "artifacts": {
            "*": {"componentInputArtifact": "", "taskOutputArtifact": {"outputArtifactKey": "", "producerTask": ""}}
        },
    },
    "retryPolicy": {"backoffDuration": "", "backoffFactor": "", "backoffMaxDuration": "", "maxRetryCount": ""},
    "taskInfo": {"name": ""},
    "triggerPolicy": {"condition": "", "strategy": ""},
}
COMPONENT = {
    "dag": {"tasks": {"*": TASK}},
    "executorLabel": "",
    "inputDefinitions": INPUTS,
    "outputDefinitions": OUTPUTS,
}
RESOURCES = {
    "cpuRequest": "", "memoryRequest": "", "memoryLimit": "",
    "resourceCpuRequest": "", "resourceMemoryRequest": "", "resourceMemoryLimit": "",
    "accelerator": {"count": "", "type": "", "resourceCount": "", "resourceType": ""},
}  # fmt: skip
PIPELINE = {
    "components": {"*": COMPONENT},
    "deploymentSpec": {
        "executors": {
            "*": {
                "container": {
                    "args": "",
                    "command": "",
                    "env": {"name": "", "value": ""},
                    "image": "",
                    "resources": RESOURCES,
                }
            }
        }
    },
    "pipelineInfo": {"name": "", "displayName": "", "description": ""},
    "root": COMPONENT,
    "schemaVersion": "",
    "sdkVersion": "",
}
NAMED = {"runtimeValue": {"constant": ""}}
PLATFORM = {
    "platforms": {
        "kubernetes": {
            "deploymentSpec": {
                "executors": {
                    "*": {
                        "activeDeadlineSeconds": "",
                        "emptyDirMounts": {"medium": "", "mountPath": "", "sizeLimit": "", "volumeName": ""},
                        "fieldPathAsEnv": {"name": "", "fieldPath": ""},
                        "imagePullSecret": {"secretName": "", "secretNameParameter": NAMED},
                        "nodeSelector": {"labels": {"*": ""}},
                        "podMetadata": {"labels": {"*": ""}, "annotations": {"*": ""}},
                        "pvcMount": {"constant": "", "mountPath": "", "pvcNameParameter": NAMED},
                        "secretAsEnv": {
                            "keyToEnv": {"envVar": "", "secretKey": ""},
                            "optional": "",
                            "secretName": "",
                            "secretNameParameter": NAMED,
                        },
                        "tolerations": {"key": "", "operator": "", "effect": "", "value": ""},
                    }
                }
            }
        }
    }
}


def unknown_fields(documents: Iterable[Any]) -> list[str]:
    """Paths of the keys of a compiled pipeline's two documents that the server does not know."""
    pipeline, platform = documents
    return _unknown(pipeline, PIPELINE) + _unknown(platform, PLATFORM)


def _unknown(value: Any, known: Any, path: str = "") -> list[str]:
    """Paths of keys that the known fields do not hold; "..." takes anything."""
    if known is ... or not isinstance(value, dict | list):
        return []
    if isinstance(value, list):
        return [place for item in value for place in _unknown(item, known, path)]
    if known == "":
        return [path]
    places = []
    for key, inner in value.items():
        if key not in known and "*" not in known:
            places.append(f"{path}/{key}")
        else:
            places += _unknown(inner, known.get(key, known.get("*")), f"{path}/{key}")
    return places
