"""How a wrapper becomes a KFP component: nothing is installed when its pod starts; placement.py sets the real image."""

import functools

from kfp import dsl

step = functools.partial(dsl.component, base_image="python", packages_to_install=[], install_kfp_package=False)
