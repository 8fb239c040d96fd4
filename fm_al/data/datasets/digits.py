"""scikit-learn's handwritten digits: 1,797 images of 8 x 8 that come with the package."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fm_al.data.base import Dataset, ImageData, Split

if TYPE_CHECKING:
    import numpy as np

FILE = "datasets/data/digits.csv.gz"  # in scikit-learn: one line per image, its class last
# The positions of the test images.
TEST = """
10 21 24 25 28 32 34 35 37 39 42 45 46 50 51 57 75 77 78 81 87 90 95 96 99 102 103 105 110 117 119
129 131 132 134 148 159 162 166 170 173 186 188 197 198 202 204 205 211 212 213 214 220 227 231 236
240 243 245 246 252 254 264 267 275 276 279 283 286 293 298 304 305 306 307 308 309 312 314 323 326
328 335 339 344 345 346 353 364 372 374 376 377 379 380 382 384 386 387 393 397 403 405 407 410 413
416 417 420 423 425 430 432 433 436 440 442 452 454 458 466 467 472 481 493 496 497 499 500 506 511
513 520 524 526 527 528 538 553 556 560 565 567 568 569 573 587 593 604 605 606 608 610 616 619 637
639 641 644 648 649 650 652 666 667 675 694 700 701 702 704 705 708 709 716 719 729 731 734 738 741
744 749 760 766 767 768 770 771 772 783 786 787 788 789 794 799 800 802 805 806 808 811 812 813 820
822 830 834 837 852 853 854 855 856 857 860 863 865 874 876 885 888 890 893 896 899 900 904 905 908
909 911 918 923 926 929 937 938 943 944 945 946 949 951 960 970 972 973 977 978 985 988 989 990 992
995 996 997 1002 1003 1005 1006 1007 1009 1010 1012 1014 1016 1023 1024 1027 1030 1035 1037 1038
1047 1049 1051 1053 1056 1057 1060 1065 1073 1076 1081 1086 1088 1090 1096 1098 1101 1107 1108 1116
1118 1121 1123 1136 1138 1139 1141 1148 1150 1151 1152 1157 1159 1161 1162 1167 1168 1169 1170 1173
1174 1176 1180 1187 1191 1192 1201 1204 1206 1207 1211 1214 1217 1218 1220 1221 1224 1232 1233 1242
1246 1253 1255 1261 1262 1264 1268 1269 1270 1273 1278 1287 1292 1295 1296 1297 1298 1299 1302 1310
1312 1313 1319 1321 1327 1330 1331 1332 1335 1336 1340 1347 1350 1351 1352 1353 1364 1367 1371 1372
1375 1395 1397 1400 1404 1405 1406 1410 1415 1422 1424 1429 1435 1440 1442 1444 1448 1449 1450 1451
1453 1455 1466 1467 1470 1471 1474 1476 1482 1483 1484 1487 1490 1496 1497 1500 1503 1505 1509 1512
1513 1516 1520 1521 1524 1529 1530 1532 1540 1542 1551 1558 1560 1563 1566 1567 1570 1574 1576 1579
1582 1590 1591 1596 1599 1602 1606 1608 1610 1613 1614 1617 1626 1628 1629 1634 1637 1638 1645 1646
1650 1655 1660 1664 1666 1668 1673 1674 1680 1687 1688 1691 1692 1696 1697 1700 1704 1706 1715 1717
1723 1726 1728 1733 1734 1739 1742 1748 1750 1755 1758 1760 1765 1767 1770 1771 1772 1773 1776 1778
1781 1787 1789 1791
"""


@dataclass(frozen=True, kw_only=True)
class Digits(Dataset):
    """Handwritten digits, with values 0 to 16 scaled to 0 to 255.

    The test set is one stratified draw of 500 images, the same for every seed:
    scikit-learn's `train_test_split(test_size=500, random_state=0)`.
    """

    def read(self, data_dir: Path, download: bool) -> ImageData:
        import torch

        pixels, classes = pixels_and_classes()
        images = (torch.from_numpy(pixels) * (255 / 16)).round().to(torch.uint8).view(-1, 1, 8, 8)
        everything = Split(images, torch.from_numpy(classes).long())
        is_test = torch.zeros(len(classes), dtype=torch.bool)
        is_test[[int(position) for position in TEST.split()]] = True
        return ImageData(
            train=everything[~is_test],
            test=everything[is_test],
            class_names=tuple(str(digit) for digit in range(10)),
        )


def pixels_and_classes() -> tuple[np.ndarray, np.ndarray]:
    """Return what scikit-learn's `load_digits(return_X_y=True)` returns.

    Importing scikit-learn takes a second, so its file is read directly if it is found.

    Returns:
        Pixels, float64 (1797, 64) in 0 to 16; and classes, int64 (1797,).
    """
    import numpy as np

    package = importlib.util.find_spec("sklearn")
    for folder in (package and package.submodule_search_locations) or ():
        if (file := Path(folder, FILE)).is_file():
            table = np.loadtxt(file, delimiter=",")
            return table[:, :-1], table[:, -1].astype(int)
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    return pixels, classes
