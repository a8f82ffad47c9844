"""Which class is taken for which, by the name of the data set that the literature uses it on.

Numbers are those of the data sets: CIFAR-10 airplane, automobile, bird, cat, deer, dog, frog,
horse, ship, truck; MNIST the digits; CIFAR-100 its classes in alphabetical order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["CIFAR100_SUPERCLASSES", "NAMED_FLIPS", "cifar100_superclasses"]

NAMED_FLIPS: dict[str, tuple[int, dict[int, int]]] = {
    # bird -> airplane, deer -> horse, cat <-> dog, truck -> automobile
    "cifar10": (10, {2: 0, 4: 7, 3: 5, 5: 3, 9: 1}),
    "mnist": (10, {2: 7, 3: 8, 5: 6, 6: 5, 7: 1}),
}
"""Name -> number of classes, and class -> the class it is taken for; others keep their labels."""

CIFAR100_SUPERCLASSES: dict[str, tuple[str, ...]] = {
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_man-made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}
"""Superclass -> its five classes."""


def cifar100_superclasses() -> NDArray[np.int64]:
    """int64 [100]: the superclass of each class of CIFAR-100, in its numbering."""
    of_class = {
        name: row for row, names in enumerate(CIFAR100_SUPERCLASSES.values()) for name in names
    }
    return np.array([of_class[name] for name in sorted(of_class)], dtype=np.int64)
